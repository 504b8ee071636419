"""What clients send, with the API document's names and limits.

The models are strict, as the gateway is: an unknown parameter or a number in quotes is refused. A `null` counts as
absent, since clients in use send it for lists that they leave out.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_pascal

from emulators.outscale import errors
from emulators.outscale.records import Architecture, BootMode, VolumeType
from emulators.outscale.values import (
    ClientToken,
    DeviceName,
    ImageId,
    ImageName,
    MappedDeviceName,
    Refused,
    SnapshotId,
    TagKey,
    TagValue,
    VmId,
    VolumeId,
)


class Body(BaseModel):
    """A request body, or a part of one."""

    model_config = ConfigDict(strict=True, extra="forbid", alias_generator=to_pascal)


class Request(Body):
    """What every call takes."""

    dry_run: bool = False


class Read(Request):
    """What a call takes that lists something."""

    filters: dict[str, Any] = Field(default_factory=dict)
    next_page_token: str | None = None
    results_per_page: Annotated[int, Field(ge=1, le=1000)] | None = None


class CheckAuthentication(Request):
    """`CheckAuthenticationRequest`."""

    login: str
    password: str


class CreateVolume(Request):
    """`CreateVolumeRequest`."""

    subregion_name: str
    snapshot_id: SnapshotId | None = None
    size: int | None = None
    volume_type: VolumeType = "standard"
    iops: int | None = None
    client_token: ClientToken = ""


class UpdateVolume(Request):
    """`UpdateVolumeRequest`."""

    volume_id: VolumeId
    size: int | None = None
    volume_type: VolumeType | None = None
    iops: int | None = None


class LinkVolume(Request):
    """`LinkVolumeRequest`."""

    volume_id: VolumeId
    vm_id: VmId
    device_name: DeviceName


class UnlinkVolume(Request):
    """`UnlinkVolumeRequest`."""

    volume_id: VolumeId
    force_unlink: bool = False


class DeleteVolume(Request):
    """`DeleteVolumeRequest`."""

    volume_id: VolumeId


class CreateSnapshot(Request):
    """`CreateSnapshotRequest`."""

    volume_id: VolumeId | None = None
    description: Annotated[str, Field(max_length=255)] = ""
    client_token: ClientToken = ""
    source_region_name: str | None = None
    source_snapshot_id: SnapshotId | None = None
    file_location: str | None = None
    snapshot_size: int | None = None


class PermissionsPart(Body):
    """`PermissionsOnResource`."""

    account_ids: list[str] = Field(default_factory=list)
    global_permission: bool = False


class PermissionsChange(Body):
    """`PermissionsOnResourceCreation`."""

    additions: PermissionsPart | None = None
    removals: PermissionsPart | None = None


class UpdateSnapshot(Request):
    """`UpdateSnapshotRequest`."""

    snapshot_id: SnapshotId
    permissions_to_create_volume: PermissionsChange


class DeleteSnapshot(Request):
    """`DeleteSnapshotRequest`."""

    snapshot_id: SnapshotId


class Bsu(Body):
    """`BsuToCreate`."""

    snapshot_id: SnapshotId | None = None
    volume_size: int | None = None
    volume_type: VolumeType = "standard"
    iops: int | None = None
    delete_on_vm_deletion: bool = True


class BlockDeviceMapping(Body):
    """`BlockDeviceMappingImage`."""

    device_name: MappedDeviceName | None = None
    bsu: Bsu | None = None
    virtual_device_name: str | None = None


class CreateImage(Request):
    """`CreateImageRequest`."""

    image_name: ImageName | None = None
    description: Annotated[str, Field(max_length=255)] = ""
    architecture: Architecture | None = None
    root_device_name: str | None = None
    block_device_mappings: list[BlockDeviceMapping] | None = None
    boot_modes: list[BootMode] | None = None
    product_codes: list[str] | None = None
    tpm_mandatory: bool | None = None
    source_image_id: ImageId | None = None
    source_region_name: str | None = None
    vm_id: VmId | None = None
    no_reboot: bool | None = None
    file_location: str | None = None


class UpdateImage(Request):
    """`UpdateImageRequest`."""

    image_id: ImageId
    description: Annotated[str, Field(max_length=255)] | None = None
    permissions_to_launch: PermissionsChange | None = None
    product_codes: list[str] | None = None


class DeleteImage(Request):
    """`DeleteImageRequest`."""

    image_id: ImageId


class Tag(Body):
    """`ResourceTag`."""

    key: TagKey
    value: TagValue


class TagToDelete(Body):
    """`ResourceTag` in `DeleteTagsRequest`: without a value it names tags of any value."""

    key: TagKey
    value: str | None = None


class CreateTags(Request):
    """`CreateTagsRequest`."""

    resource_ids: Annotated[list[str], Field(min_length=1)]
    tags: Annotated[list[Tag], Field(min_length=1)]


class DeleteTags(Request):
    """`DeleteTagsRequest`."""

    resource_ids: Annotated[list[str], Field(min_length=1)]
    tags: Annotated[list[TagToDelete], Field(min_length=1)]


B = TypeVar("B", bound=Body)


def load(body: bytes) -> dict[str, Any]:
    """Read a request body without what is null in it.

    Raises:
        ApiError: it is no JSON object.
    """
    try:
        loaded = json.loads(body or b"{}")
        # Half of a surrogate pair is JSON, but no text that could be kept.
        json.dumps(loaded, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        loaded = None
    if not isinstance(loaded, dict):
        raise errors.invalid_value(errors.INVALID_VALUE, "The request body is no JSON object.")
    return {key: _without_nulls(value) for key, value in loaded.items() if value is not None}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if item is not None]
    return value


def parse(model: type[B], loaded: dict[str, Any]) -> B:
    """A request body as its call takes it.

    Raises:
        ApiError: a parameter is missing, unknown or none that the call takes.
    """
    try:
        return model.model_validate(loaded)
    except ValidationError as error:
        # One that is missing counts more than others that are wrong because of it.
        first = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "missing")[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] in {"missing", "too_short"}:
            raise errors.missing_parameter(where) from None
        if first["type"] == "extra_forbidden":
            raise errors.invalid_parameter(where) from None
        refused = first.get("ctx", {}).get("error")
        if isinstance(refused, Refused):
            raise errors.invalid_value(refused.code, str(refused)) from None
        code = errors.INVALID_TYPE if first["type"].endswith("_type") else errors.INVALID_VALUE
        raise errors.invalid_value(code, f"{where}: {first['msg']}") from None
