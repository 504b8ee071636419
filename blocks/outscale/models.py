"""What we read from and send to an OUTSCALE region: the parts of its OpenAPI document (1.42.0) that we use.

The wire says `VmId` where Python says `vm_id`; both are taken when a model is made. Replies may hold more than this,
may leave out what is not known yet, and may hold states that are newer than this list: none of it is an error.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal

ROOT_DEVICE = "/dev/sda1"
"""The only name that a root device may have."""
ClientToken = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
"""An idempotency token: a create that is sent again with it makes nothing twice, and what it made is found by it."""

VolumeType = Literal["standard", "gp2", "io1"]
BootMode = Literal["legacy", "uefi"]


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(_utc)]
"""A time with its zone; where the API leaves it out, it means UTC."""


class _Reply(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, validate_by_name=True, extra="ignore", frozen=True)


class Account(_Reply):
    """The account that the access key belongs to."""

    account_id: str


class Tag(_Reply):
    """A tag on a resource that was read as a whole."""

    key: str
    value: str


class ResourceTag(Tag):
    """A tag, and what it is on."""

    resource_id: str
    resource_type: str


class Placement(_Reply):
    """Where a VM runs."""

    subregion_name: str


class VmBsu(_Reply):
    """A volume as a VM sees it. States: attaching, attached, detaching, detached."""

    volume_id: str
    state: str = ""
    delete_on_vm_deletion: bool = False


class VmDevice(_Reply):
    """A device name that is taken on a VM, and by which volume."""

    device_name: str
    bsu: VmBsu


class Vm(_Reply):
    """A virtual machine. States: pending, running, stopping, stopped, shutting-down, terminated, quarantine."""

    vm_id: str
    state: str
    placement: Placement
    block_device_mappings: list[VmDevice] = []
    root_device_name: str = ROOT_DEVICE
    architecture: str = ""
    image_id: str = ""
    tags: list[Tag] = []


class Bsu(_Reply):
    """A volume that a VM of an OMI gets: made of a snapshot, or empty. `volume_size` is GiB. Read and sent alike."""

    snapshot_id: str | None = None
    volume_size: int | None = None
    volume_type: str | None = None
    iops: int | None = None
    delete_on_vm_deletion: bool | None = None


class ImageDevice(_Reply):
    """A device of an OMI. Devices that are no volumes (`virtual_device_name`) have no `bsu`. Read and sent alike."""

    device_name: str
    bsu: Bsu | None = None
    virtual_device_name: str | None = None


class StateComment(_Reply):
    """Why an OMI is in its state."""

    state_code: str = ""
    state_message: str = ""


class Permissions(_Reply):
    """Which accounts may use a resource; `global_permission`: all of them."""

    account_ids: list[str] = []
    global_permission: bool = False


class Image(_Reply):
    """An OUTSCALE machine image (OMI). States: pending, available, failed."""

    image_id: str
    state: str
    image_name: str = ""
    account_id: str = ""
    account_alias: str = ""
    architecture: str = ""
    description: str = ""
    creation_date: Moment | None = None
    root_device_name: str = ""
    root_device_type: str = ""
    block_device_mappings: list[ImageDevice] = []
    boot_modes: list[str] = []
    tpm_mandatory: bool = False
    secure_boot: bool = False
    product_codes: list[str] = []
    state_comment: StateComment = StateComment()
    permissions_to_launch: Permissions = Permissions()
    tags: list[Tag] = []

    @property
    def snapshot_ids(self) -> list[str]:
        """The snapshots that its devices are made of."""
        return [
            device.bsu.snapshot_id for device in self.block_device_mappings if device.bsu and device.bsu.snapshot_id
        ]


class LinkedVolume(_Reply):
    """A volume's link to a VM. States: attaching, attached, detaching, detached."""

    vm_id: str
    device_name: str
    state: str


class Volume(_Reply):
    """A BSU volume; `size` is GiB. States: creating, available, in-use, deleting, error."""

    volume_id: str
    state: str
    subregion_name: str = ""
    size: int = 0
    volume_type: str = ""
    iops: int | None = None
    snapshot_id: str = ""
    client_token: str = ""
    creation_date: Moment | None = None
    linked_volumes: list[LinkedVolume] = []
    tags: list[Tag] = []


class Snapshot(_Reply):
    """A snapshot of a volume; `volume_size` is GiB, `progress` a percentage.

    States: in-queue, pending, pending/queued, importing, completed, error, deleting.
    """

    snapshot_id: str
    state: str
    volume_id: str = ""
    volume_size: int = 0
    progress: int = 0
    account_id: str = ""
    description: str = ""
    client_token: str = ""
    creation_date: Moment | None = None
    permissions_to_create_volume: Permissions = Permissions()
    tags: list[Tag] = []


class _Request(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, validate_by_name=True, extra="forbid", frozen=True)


class ImageCreate(_Request):
    """A new OMI: registered from the snapshots in its devices, or (with `source_image_id`) a copy of another."""

    image_name: str
    description: str | None = None
    architecture: Literal["i386", "x86_64"] | None = None
    root_device_name: str | None = None
    block_device_mappings: list[ImageDevice] | None = None
    boot_modes: list[BootMode] | None = None
    tpm_mandatory: bool | None = None
    product_codes: list[str] | None = None
    source_image_id: str | None = None
    source_region_name: str | None = None
    """Needed for a copy, and the region that the request goes to: the API copies within one region only."""


class VolumeCreate(_Request):
    """A new volume. `size` is GiB, and needed unless it is made of a snapshot; `iops` is for io1 only."""

    subregion_name: str
    client_token: ClientToken
    snapshot_id: str | None = None
    size: int | None = None
    volume_type: VolumeType | None = None
    iops: int | None = None


class PermissionsSet(_Request):
    """Accounts, or (`global_permission`) everybody."""

    account_ids: list[str] | None = None
    global_permission: bool | None = None


class PermissionsChange(_Request):
    """Who is let in and who no longer is."""

    additions: PermissionsSet | None = None
    removals: PermissionsSet | None = None


class ImageFilters(_Request):
    """Which OMIs: all filters that are set must match, each by any of its values. `tags` are `KEY=VALUE`."""

    account_aliases: list[str] | None = None
    account_ids: list[str] | None = None
    architectures: list[str] | None = None
    block_device_mapping_delete_on_vm_deletion: bool | None = None
    block_device_mapping_device_names: list[str] | None = None
    block_device_mapping_snapshot_ids: list[str] | None = None
    block_device_mapping_volume_sizes: list[int] | None = None
    block_device_mapping_volume_types: list[str] | None = None
    boot_modes: list[BootMode] | None = None
    descriptions: list[str] | None = None
    file_locations: list[str] | None = None
    hypervisors: list[str] | None = None
    image_ids: list[str] | None = None
    image_names: list[str] | None = None
    """`*` and `?` stand for any characters and any one character."""
    permissions_to_launch_account_ids: list[str] | None = None
    permissions_to_launch_global_permission: bool | None = None
    product_code_names: list[str] | None = None
    product_codes: list[str] | None = None
    root_device_names: list[str] | None = None
    root_device_types: list[str] | None = None
    secure_boot: bool | None = None
    states: list[str] | None = None
    tag_keys: list[str] | None = None
    tag_values: list[str] | None = None
    tags: list[str] | None = None
    tpm_mandatory: bool | None = None
    virtualization_types: list[str] | None = None


class VolumeFilters(_Request):
    """Which volumes: all filters that are set must match, each by any of its values. `tags` are `KEY=VALUE`."""

    client_tokens: list[str] | None = None
    link_volume_device_names: list[str] | None = None
    link_volume_vm_ids: list[str] | None = None
    snapshot_ids: list[str] | None = None
    subregion_names: list[str] | None = None
    tag_keys: list[str] | None = None
    tag_values: list[str] | None = None
    tags: list[str] | None = None
    volume_ids: list[str] | None = None
    volume_states: list[str] | None = None


class SnapshotFilters(_Request):
    """Which snapshots: all filters that are set must match, each by any of its values. `tags` are `KEY=VALUE`."""

    account_ids: list[str] | None = None
    client_tokens: list[str] | None = None
    descriptions: list[str] | None = None
    snapshot_ids: list[str] | None = None
    states: list[str] | None = None
    tag_keys: list[str] | None = None
    tag_values: list[str] | None = None
    tags: list[str] | None = None
    volume_ids: list[str] | None = None


class TagFilters(_Request):
    """Which tags: all filters that are set must match, each by any of its values."""

    keys: list[str] | None = None
    resource_ids: list[str] | None = None
    resource_types: list[str] | None = None
    values: list[str] | None = None
