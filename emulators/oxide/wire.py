"""What clients see: each record as its schema in the API document has it, and lists as pages."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from emulators.oxide.errors import bad_request
from emulators.oxide.records import (
    AntiAffinityGroup,
    Disk,
    DiskState,
    FloatingIp,
    Identified,
    Image,
    Instance,
    IpPool,
    NetworkInterface,
    Project,
    Role,
    Silo,
    Snapshot,
    SshKey,
    Token,
    User,
    Vpc,
    VpcSubnet,
    now,
)
from emulators.region.records import Collection, Record

Json = dict[str, Any]
R = TypeVar("R", bound=Identified)
T = TypeVar("T", bound=Record)

PAGE_DEFAULT, PAGE_MAX = 100, 10_000
_SORTS = ("name_ascending", "name_descending", "id_ascending")


def project(record: Project) -> Json:
    """`Project`."""
    return record.model_dump(mode="json", exclude={"silo_id"})


def vpc(record: Vpc) -> Json:
    """`Vpc`."""
    return record.model_dump(mode="json")


def vpc_subnet(record: VpcSubnet) -> Json:
    """`VpcSubnet`."""
    return record.model_dump(mode="json") | {"custom_router_id": None}


def ssh_key(record: SshKey) -> Json:
    """`SshKey`."""
    return record.model_dump(mode="json")


def current_user(user: User, silo: Silo) -> Json:
    """`CurrentUser`."""
    view = user.model_dump(mode="json", include={"id", "silo_id", "time_created", "time_modified"})
    return view | {
        "display_name": user.name,
        "silo_name": silo.name,
        "silo_admin": user.role is Role.ADMIN,
        "fleet_viewer": False,
    }


def access_token(record: Token) -> Json:
    """`DeviceAccessToken`."""
    return record.model_dump(mode="json", include={"id", "time_created", "time_expires"})


def ip_pool(record: IpPool, silo_id: str) -> Json:
    """`SiloIpPool`: the pool as one silo sees it."""
    view = record.model_dump(mode="json", exclude={"network", "silos"})
    version = "v6" if ":" in record.network else "v4"
    return view | {"ip_version": version, "pool_type": "unicast", "is_default": record.silos[silo_id]}


def disk(record: Disk) -> Json:
    """`Disk`."""
    state: Json = {"state": record.state}
    if record.state is DiskState.ATTACHED:
        state["instance"] = record.instance_id
    view = record.model_dump(mode="json", exclude={"instance_id"})
    return view | {"state": state, "device_path": f"/mnt/{record.name}"}


def snapshot(record: Snapshot) -> Json:
    """`Snapshot`."""
    return record.model_dump(mode="json", exclude={"block_size"})


def image(record: Image) -> Json:
    """`Image`. The control plane never fills `digest` for an image made of a snapshot."""
    return record.model_dump(mode="json", exclude={"source_mark", "silo_id"}) | {"digest": None}


def floating_ip(record: FloatingIp) -> Json:
    """`FloatingIp`."""
    return record.model_dump(mode="json")


def network_interface(record: NetworkInterface) -> Json:
    """`InstanceNetworkInterface`."""
    view = record.model_dump(mode="json", exclude={"v4", "v6"})
    stacks = {name: stack.model_dump() for name, stack in (("v4", record.v4), ("v6", record.v6)) if stack}
    if len(stacks) == 2:
        return view | {"ip_stack": {"type": "dual_stack", "value": stacks}}
    ((version, stack),) = stacks.items()
    return view | {"ip_stack": {"type": version, "value": stack}}


def anti_affinity_group(record: AntiAffinityGroup) -> Json:
    """`AntiAffinityGroup`."""
    return record.model_dump(mode="json", exclude={"members"})


def group_member(record: Instance) -> Json:
    """`AntiAffinityGroupMember`."""
    return {"type": "instance", "value": {"id": record.id, "name": record.name, "run_state": record.state}}


_NOT_SHOWN = {"state", "disk_ids", "ephemeral_ips", "ssh_key_ids", "user_data", "behaviour"}


def instance(record: Instance, cooldown: float) -> Json:
    """`Instance`.

    Args:
        record: the instance.
        cooldown: seconds between two automatic restarts of one instance.
    """
    view = record.model_dump(mode="json", exclude=_NOT_SHOWN)
    until = record.time_last_auto_restarted and record.time_last_auto_restarted + timedelta(seconds=cooldown)
    return view | {
        "run_state": record.state,
        "auto_restart_enabled": record.auto_restart_policy != "never",
        "auto_restart_cooldown_expiration": until.isoformat() if until is not None and until > now() else None,
    }


def page(collection: Collection[R], scope: str, query: Mapping[str, str], view: Callable[[R], Json]) -> Json:
    """One page of a scope, as `limit`, `page_token` and `sort_by` ask for it.

    `next_page` is set whenever the page is not empty; only an empty page ends a list.
    """
    limit = page_limit(query)
    sort, after = _position(query)
    if sort == "id_ascending":
        found = collection.page_by_id(scope, after[1] if after else None, limit)
    else:
        found = collection.page_by_name(scope, after, limit, descending=sort == "name_descending")
    token = _token(sort, (found[-1].name, found[-1].id)) if found else None
    return {"items": [view(record) for record in found], "next_page": token}


def page_of(records: list[R], query: Mapping[str, str], view: Callable[[R], Json]) -> Json:
    """One page of a few records that no collection keeps in order."""
    limit = page_limit(query)
    sort, after = _position(query)

    def key(record: R) -> tuple[str, str]:
        return ("", record.id) if sort == "id_ascending" else (record.name, record.id)

    down = sort == "name_descending"
    if after is not None and sort == "id_ascending":
        after = ("", after[1])
    rest = [r for r in records if after is None or (key(r) < after if down else key(r) > after)]
    found = sorted(rest, key=key, reverse=down)[:limit]
    token = _token(sort, (found[-1].name, found[-1].id)) if found else None
    return {"items": [view(record) for record in found], "next_page": token}


def page_by_id(records: list[T], query: Mapping[str, str], view: Callable[[T], Json]) -> Json:
    """One page of a few records of a list that is sorted by id and by nothing else."""
    limit = page_limit(query)
    if query.get("sort_by", "id_ascending") != "id_ascending":
        raise bad_request(
            f"unable to parse query string: unknown variant `{query['sort_by']}`, expected `id_ascending`"
        )
    after = _position({"sort_by": "id_ascending", **query})[1]
    rest = [record for record in records if after is None or record.id > after[1]]
    found = sorted(rest, key=lambda record: record.id)[:limit]
    return {
        "items": [view(r) for r in found],
        "next_page": _token("id_ascending", ("", found[-1].id)) if found else None,
    }


def all_of(items: list[Json]) -> Json:
    """A list that the API gives whole."""
    return {"items": items, "next_page": None}


def page_limit(query: Mapping[str, str]) -> int:
    """The `limit` of a request: at least 1; the server cuts it at its own maximum."""
    text = query.get("limit", str(PAGE_DEFAULT))
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 32):
        raise bad_request("unable to parse query string: limit: invalid value: expected a nonzero u32")
    return min(int(text), PAGE_MAX)


def _token(sort: str, last: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(["v1", sort, *last]).encode()).decode()


def _position(query: Mapping[str, str]) -> tuple[str, tuple[str, str] | None]:
    # A token carries the order of its list: what the request says besides it does not count.
    if token := query.get("page_token"):
        try:
            version, sort, name, record_id = json.loads(base64.urlsafe_b64decode(token.encode()))
        except (TypeError, ValueError):
            version, sort, name, record_id = "", "", "", ""
        if version != "v1" or sort not in _SORTS:
            raise bad_request("unable to parse query string: failed to parse pagination token")
        return sort, (str(name), str(record_id))
    sort = query.get("sort_by", "name_ascending")
    if sort not in _SORTS:
        raise bad_request(f"unable to parse query string: unknown variant `{sort}`, expected one of {_SORTS}")
    return sort, None
