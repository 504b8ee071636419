"""What exists in an OUTSCALE region, as it is stored. `wire` says how a client sees it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field

from emulators.region.records import Record

VolumeType = Literal["standard", "gp2", "io1"]
BootMode = Literal["legacy", "uefi"]
Architecture = Literal["i386", "x86_64"]


EVERYONE = "*"
"""Stands for all accounts among those that see a resource."""


def now() -> datetime:
    """The time of a change."""
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """An id for something new, such as `vol-` and eight hex digits."""
    return f"{prefix}-{secrets.token_hex(4)}"


class VolumeState(StrEnum):
    """The states of a volume."""

    CREATING = "creating"
    AVAILABLE = "available"
    IN_USE = "in-use"
    DELETING = "deleting"
    ERROR = "error"


class LinkState(StrEnum):
    """The states of a volume's link to a VM. A detached one is forgotten."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"


class SnapshotState(StrEnum):
    """The states of a snapshot that this region knows."""

    QUEUED = "pending/queued"
    PENDING = "pending"
    COMPLETED = "completed"
    ERROR = "error"


class ImageState(StrEnum):
    """The states of an OMI."""

    PENDING = "pending"
    AVAILABLE = "available"
    FAILED = "failed"


class Resource(Record):
    """What every resource of an account has."""

    account_id: str
    tags: dict[str, str] = Field(default_factory=dict)
    creation_date: datetime = Field(default_factory=now)

    @property
    def scope(self) -> str:
        """The account's id."""
        return self.account_id

    @property
    def viewers(self) -> frozenset[str]:
        """Which accounts see it."""
        return frozenset({self.account_id})

    def is_seen_by(self, account_id: str) -> bool:
        """Whether an account owns it or may use it."""
        return not self.viewers.isdisjoint({account_id, EVERYONE})


class Permissions(BaseModel):
    """Who else may use a resource."""

    account_ids: list[str] = Field(default_factory=list)
    global_permission: bool = False


class Shared(Resource):
    """A resource that other accounts may be allowed to use."""

    permissions: Permissions = Field(default_factory=Permissions)

    @property
    def viewers(self) -> frozenset[str]:
        """Its owner, and those who may use it."""
        everyone = {EVERYONE} if self.permissions.global_permission else set()
        return frozenset({self.account_id, *self.permissions.account_ids}) | everyone


class Vm(Resource):
    """A VM: the one that this machine is, or another one of its owner."""

    subregion: str


class Link(BaseModel):
    """A volume's link to a VM."""

    vm_id: str
    device: str
    state: LinkState = LinkState.ATTACHING
    date: datetime = Field(default_factory=now)
    delete_on_vm_deletion: bool = False


class Volume(Resource):
    """A BSU volume. Its record's name is its client token."""

    size: int
    volume_type: VolumeType
    iops: int | None = None
    snapshot_id: str | None = None
    subregion: str
    state: VolumeState = VolumeState.CREATING
    link: Link | None = None


class Snapshot(Shared):
    """A snapshot. Its record's name is its client token."""

    volume_id: str
    volume_size: int
    description: str = ""
    source_snapshot_id: str | None = None
    state: SnapshotState = SnapshotState.QUEUED
    progress: int = 0

    @property
    def is_being_made(self) -> bool:
        """Whether its blocks are still to be copied."""
        return self.state in {SnapshotState.QUEUED, SnapshotState.PENDING}


class Mapping(BaseModel):
    """One block device of an OMI."""

    device: str
    snapshot_id: str | None = None
    size: int | None = None
    volume_type: VolumeType = "standard"
    iops: int | None = None
    delete_on_vm_deletion: bool = True
    virtual_device: str | None = None


class Image(Shared):
    """An OMI. Its name is unique in its account."""

    description: str = ""
    architecture: Architecture = "x86_64"
    root_device: str
    mappings: list[Mapping]
    boot_modes: list[BootMode]
    product_codes: list[str]
    tpm_mandatory: bool = False
    source_image_id: str | None = None
    """For a copy: of what."""
    state: ImageState = ImageState.PENDING
    state_comment: str | None = None
    source_mark: str | None = None
    """For an OMI that came with the region: which file it was copied from, and when that was last changed."""
