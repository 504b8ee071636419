"""Values for the schemas of an OpenAPI document: mostly such that fit, now and then such that do not.

What exists changes from request to request, so ids are drawn as `Existing` and known only when a request is sent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Json = Any
_ROOMS = ("instances", "disks", "snapshots", "images", "ssh_keys", "floating_ips", "interfaces", "groups", "projects")
_ROOM_OF = {
    "instance": "instances",
    "parent": "instances",
    "disk": "disks",
    "boot_disk": "disks",
    "snapshot": "snapshots",
    "snapshot_id": "snapshots",
    "id": "snapshots",
    "image": "images",
    "image_id": "images",
    "ssh_key": "ssh_keys",
    "ssh_public_keys": "ssh_keys",
    "floating_ip": "floating_ips",
    "interface": "interfaces",
    "anti_affinity_group": "groups",
    "anti_affinity_groups": "groups",
    "project": "projects",
    "pool": "pools",
    "vpc": "vpcs",
    "subnet": "vpc_subnets",
    "token_id": "tokens",
}
"""Which of a region's collections a parameter or property names a thing of."""


@dataclass(frozen=True)
class Existing:
    """Something of a collection, by its place there."""

    room: str
    place: int
    by_name: bool


_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 65), 1 << 65),
    st.floats(allow_nan=False),
    st.text(max_size=70),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


class Generator:
    """Generates values for one document."""

    def __init__(self, components: dict[str, Any], names: st.SearchStrategy[str]) -> None:
        self._components = components
        self._names = names
        self._made: dict[str, st.SearchStrategy[Json]] = {}

    def value(self, schema: dict[str, Any], name: str = "") -> st.SearchStrategy[Json]:
        """A value for a schema, in a parameter or property of that name; one in some is junk."""
        key = f"{name} {json.dumps(schema)}"
        if key not in self._made:
            fitting = self._fitting(schema, name)
            if schema.get("nullable"):
                fitting = st.one_of(fitting, fitting, st.none())
            self._made[key] = st.integers(0, 99).flatmap(lambda number: _JUNK if number == 0 else fitting)
        return self._made[key]

    def _existing(self, name: str, *, by_name: bool) -> st.SearchStrategy[Existing]:
        rooms = st.just(_ROOM_OF[name]) if name in _ROOM_OF else st.sampled_from(_ROOMS)
        return st.builds(
            Existing, rooms, st.sampled_from([0, 0, 0, 1, 2]), st.booleans() if by_name else st.just(False)
        )

    def _fitting(self, schema: dict[str, Any], name: str) -> st.SearchStrategy[Json]:
        if "$ref" in schema:
            kind = schema["$ref"].rpartition("/")[2]
            if kind == "Name":
                return self._names
            if kind == "NameOrId":
                return st.one_of(self._existing(name, by_name=True), self._existing(name, by_name=True), self._names)
            if kind == "ByteCount":
                return st.sampled_from([1 << 30, 1 << 31, 3 << 30, 0, 1, 1 << 45, (1 << 64) - 1])
            if kind == "InstanceCpuCount":
                return st.integers(0, 300)
            if kind == "Hostname":
                return st.one_of(self._names, st.just("a.b-c.d"))
            return self.value(self._components["schemas"][kind], name)
        for word in ("allOf", "oneOf", "anyOf"):
            if word in schema:
                return st.one_of([self.value(option, name) for option in schema[word]])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                return st.lists(self.value(schema["items"], name), max_size=2)
            case "integer":
                return st.one_of(st.integers(0, 300), st.integers(0, (1 << 64) - 1))
            case "boolean":
                return st.booleans()
            case "string":
                return self._string(schema, name)
            case _:
                return _JUNK

    def _object(self, schema: dict[str, Any]) -> st.SearchStrategy[Json]:
        properties = {name: self.value(value, name) for name, value in schema.get("properties", {}).items()}
        required = {name: properties.pop(name) for name in schema.get("required", [])}
        return st.fixed_dictionaries(required, optional=properties)

    def _string(self, schema: dict[str, Any], name: str) -> st.SearchStrategy[Json]:
        match schema.get("format"):
            case "uuid":
                return self._existing(name, by_name=False)
            case "ip" | "ipv4" | "ipv6":
                return st.sampled_from(["127.20.0.9", "172.30.0.9", "10.0.0.1", "fd2d:4569:88b2::9", "::1"])
            case "byte":
                return st.sampled_from(["", "AAAA", "IyEvYmluL3NoCg==", "%"])
        if "pattern" in schema:
            return st.sampled_from(["10.0.0.0/8", "10.1.2.3/8", "fd00::/8", "172.30.0.0/22", "0.0.0.0/0"])
        return st.text(max_size=20)
