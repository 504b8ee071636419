"""Which OMI: `source_omi_filter` and the `outscale-omi` lookup. Nothing that was asked for is ever left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from blocks.errors import InvalidRequest, NotFound
from blocks.forms import plain_optionals
from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import Image, ImageFilters

_SHOWN = 10
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class _Key:
    """One key of a filter."""

    field: str
    """Of the request (API document, FiltersImage)."""
    seen: Callable[[Image], Iterable[str]]
    """What an OMI has there."""
    patterns: bool = False
    """Whether the region takes patterns for it. Where it does not, we look ourselves."""


def _devices(name: str) -> Callable[[Image], list[str]]:
    return lambda image: [str(getattr(d.bsu, name)) for d in image.block_device_mappings if d.bsu]


def _word(value: bool) -> str:
    return "true" if value else "false"


_KEYS: Mapping[str, _Key] = {
    "account-alias": _Key("account_aliases", lambda image: [image.account_alias]),
    "account-id": _Key("account_ids", lambda image: [image.account_id]),
    "owner-alias": _Key("account_aliases", lambda image: [image.account_alias]),
    "owner-id": _Key("account_ids", lambda image: [image.account_id]),
    "architecture": _Key("architectures", lambda image: [image.architecture]),
    "block-device-mapping.device-name": _Key(
        "block_device_mapping_device_names", lambda image: [d.device_name for d in image.block_device_mappings]
    ),
    "block-device-mapping.snapshot-id": _Key("block_device_mapping_snapshot_ids", _devices("snapshot_id")),
    "block-device-mapping.volume-size": _Key("block_device_mapping_volume_sizes", _devices("volume_size")),
    "block-device-mapping.volume-type": _Key("block_device_mapping_volume_types", _devices("volume_type")),
    "boot-mode": _Key("boot_modes", lambda image: image.boot_modes),
    "description": _Key("descriptions", lambda image: [image.description]),
    "hypervisor": _Key("hypervisors", lambda _: ["xen"]),
    "image-id": _Key("image_ids", lambda image: [image.image_id]),
    "image-name": _Key("image_names", lambda image: [image.image_name], patterns=True),
    "is-public": _Key(
        "permissions_to_launch_global_permission", lambda image: [_word(image.permissions_to_launch.global_permission)]
    ),
    "name": _Key("image_names", lambda image: [image.image_name], patterns=True),
    "product-code": _Key("product_codes", lambda image: image.product_codes),
    "root-device-name": _Key("root_device_names", lambda image: [image.root_device_name]),
    "root-device-type": _Key("root_device_types", lambda image: [image.root_device_type]),
    "secure-boot": _Key("secure_boot", lambda image: [_word(image.secure_boot)]),
    "state": _Key("states", lambda image: [image.state]),
    "tag-key": _Key("tag_keys", lambda image: [tag.key for tag in image.tags]),
    "tag-value": _Key("tag_values", lambda image: [tag.value for tag in image.tags]),
    "tpm-mandatory": _Key("tpm_mandatory", lambda image: [_word(image.tpm_mandatory)]),
    "virtualization-type": _Key("virtualization_types", lambda _: ["hvm"]),
}
_YES_OR_NO = frozenset({"is-public", "secure-boot", "tpm-mandatory"})
_BOOT_MODES = frozenset({"legacy", "uefi"})
_NUMBERS = frozenset({"block-device-mapping.volume-size"})


def _check_key(key: str) -> str:
    if key in _KEYS or (key.startswith("tag:") and len(key) > 4):
        return key
    near = get_close_matches(key, _KEYS, n=1)
    raise PydanticCustomError(
        "filter_key",
        "is no key of a filter{near}; there are tag:KEY and {keys}",
        {"near": f" (is it {near[0]}?)" if near else "", "keys": ", ".join(_KEYS)},
    )


Key = Annotated[str, AfterValidator(_check_key)]


class NameAndValue(BaseModel):
    """One `filter` block: a key, and the value or values that match."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)

    name: Key = Field(title="Key", description="As in filters.", json_schema_extra={"position": 1})
    value: str | list[str] = Field(
        title="Value", description="Or several: one of them is enough.", json_schema_extra={"position": 2}
    )


class OmiFilter(BaseModel):
    """Which OMI. All that is given must match; of several values of one key, one."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)

    filters: dict[Key, str | list[str]] = Field(
        default_factory=dict,
        title="Filters",
        description="Keys and values such as image-name: Debian-12-*; a value may hold * and ?, or be a list.",
        json_schema_extra={"position": 1},
    )
    filter: list[NameAndValue] = Field(
        default_factory=list,
        title="More filters",
        description="The same as name and value, for keys that occur twice.",
        json_schema_extra={"position": 2},
    )
    owners: list[str] = Field(
        default_factory=list,
        title="Owners",
        description="Account ids or aliases, one of which owns the OMI; self is the account that builds.",
        json_schema_extra={"position": 3},
    )
    most_recent: bool = Field(
        default=False,
        title="Most recent",
        description="Of several that match take the newest; else that is an error.",
        json_schema_extra={"position": 4},
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return plain_optionals(handler.resolve_ref_schema(handler(core)))

    @model_validator(mode="after")
    def _check(self) -> OmiFilter:
        if not (self.filters or self.filter or self.owners):
            raise PydanticCustomError("filter_empty", "must have filters, filter or owners: else any OMI would match")
        for key, values in self.wanted():
            if key in _YES_OR_NO and {value.lower() for value in values} - {"true", "false"}:
                raise PydanticCustomError("filter_value", "{key} must be true or false", {"key": key})
            if key == "boot-mode" and set(values) - _BOOT_MODES:
                raise PydanticCustomError("filter_value", "{key} must be legacy or uefi", {"key": key})
            if key in _NUMBERS and not all(value.isdecimal() for value in values):
                raise PydanticCustomError("filter_value", "{key} must be a number", {"key": key})
            if not values:
                raise PydanticCustomError("filter_value", "{key} must have a value", {"key": key})
        return self

    def wanted(self) -> list[tuple[str, list[str]]]:
        """Every key with its values."""
        blocks = [(block.name, block.value) for block in self.filter]
        return [(key, [value] if isinstance(value, str) else value) for key, value in [*self.filters.items(), *blocks]]

    @property
    def names_an_owner(self) -> bool:
        """Whether only OMIs of certain accounts, or an OMI of a certain id, can match."""
        safe = {"account-id", "account-alias", "owner-id", "owner-alias", "image-id"}
        return bool(self.owners) or any(key in safe for key, _ in self.wanted())

    def __str__(self) -> str:
        said = [f"{key}={'|'.join(values)}" for key, values in self.wanted()]
        return ", ".join([*said, *([f"owners={'|'.join(self.owners)}"] if self.owners else [])])


class OmiLookup(OmiFilter):
    """The `outscale-omi` lookup: as a source's filter, and it always says whose OMI is meant, as the plugin's does."""

    owners: list[str] = Field(
        min_length=1,
        title="Owners",
        description="Account ids or aliases, one of which owns the OMI; self is the account that asks.",
        json_schema_extra={"position": 3},
    )


async def find_omi(client: OutscaleClient, wanted: OmiFilter, account_id: str, image_id: str | None = None) -> Image:
    """The one OMI that matches, or the newest of those that do. Only available ones count, unless `state` is asked for.

    Args:
        client: The account's view.
        wanted: What has to match.
        account_id: Who `self` is.
        image_id: Its id, which has to match as well.

    Raises:
        NotFound: none matches.
        InvalidRequest: several do, and the newest was not asked for. It says which.
    """
    found: dict[str, Image] = {}
    for owners in _owners(wanted.owners, account_id):
        filters, checks = _request(wanted, owners, image_id)
        async for image in client.images(filters):
            if all(check(image) for check in checks):
                found[image.image_id] = image
    newest = sorted(found.values(), key=lambda image: image.creation_date or _LONG_AGO, reverse=True)
    asked = f"OMI with {wanted}" + (f", source_omi={image_id}" if image_id else "")
    if not newest:
        raise NotFound(
            "no OMI matches", resource=asked, hint=f"Check the filter, its owners and the region ({client.region})."
        )
    if len(newest) > 1 and not wanted.most_recent:
        names = ", ".join(f"{image.image_name} ({image.image_id})" for image in newest[:_SHOWN])
        more = f" and {len(newest) - _SHOWN} more" if len(newest) > _SHOWN else ""
        raise InvalidRequest(
            f"{len(newest)} OMIs match",
            resource=asked,
            why=names + more,
            hint="Ask for more, or for the newest of them: most_recent: true.",
        )
    return newest[0]


def _owners(owners: Sequence[str], account_id: str) -> list[dict[str, list[str]]]:
    """Requests' parts: ids and aliases are two filters, of which the region would want both."""
    names = [account_id if owner == "self" else owner for owner in owners]
    ids = [name for name in names if name.isdecimal()]
    aliases = [name for name in names if not name.isdecimal()]
    parts = [{"account_ids": ids}] if ids else []
    return [*parts, {"account_aliases": aliases}] if aliases else parts or [{}]


def _request(
    wanted: OmiFilter, owners: dict[str, list[str]], image_id: str | None
) -> tuple[ImageFilters, list[Callable[[Image], bool]]]:
    """What to ask the region for, and what to look at oneself: patterns, and keys that are asked for twice."""
    fields: dict[str, Any] = dict(owners)
    checks: list[Callable[[Image], bool]] = []
    tags: list[str] = []
    if image_id is not None:
        fields["image_ids"] = [image_id]
    for key, values in wanted.wanted():
        if key.startswith("tag:"):
            checks.append(_tag_matches(key.removeprefix("tag:"), values))
            if not tags and len(values) == 1 and not _is_pattern(values):
                tags.append(f"{key.removeprefix('tag:')}={values[0]}")
            continue
        known = _KEYS[key]
        checks.append(_matches(known.seen, [value.lower() for value in values] if key in _YES_OR_NO else values))
        if known.field not in fields and (known.patterns or not _is_pattern(values)):
            fields[known.field] = _typed(key, values)
    if tags:
        fields["tags"] = tags
    if not any(key == "state" for key, _ in wanted.wanted()):
        fields["states"] = ["available"]
    return ImageFilters.model_validate(fields), checks


def _typed(key: str, values: list[str]) -> Any:
    if key in _YES_OR_NO:
        return values[0].lower() == "true"
    return [int(value) for value in values] if key in _NUMBERS else values


def _is_pattern(values: Iterable[str]) -> bool:
    return any(character in value for value in values for character in "*?")


def _fits(value: str, patterns: Iterable[str]) -> bool:
    # `[` is no pattern of the region's: it stands for itself.
    return any(fnmatchcase(value, pattern.replace("[", "[[]")) for pattern in patterns)


def _matches(seen: Callable[[Image], Iterable[str]], values: list[str]) -> Callable[[Image], bool]:
    return lambda image: any(_fits(value, values) for value in seen(image))


def _tag_matches(key: str, values: list[str]) -> Callable[[Image], bool]:
    return lambda image: any(tag.key == key and _fits(tag.value, values) for tag in image.tags)
