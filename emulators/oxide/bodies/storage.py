"""What clients send for images, disks and snapshots."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from emulators.oxide.bodies.base import BlockSize, Body, ByteCount, Id, IdentityCreate, Name, NameOrId


class SnapshotCreate(IdentityCreate):
    """`SnapshotCreate`."""

    disk: NameOrId


class SnapshotImageSource(Body):
    """`ImageSource`: the only kind there is."""

    type: Literal["snapshot"]
    id: Id


class ImageCreate(IdentityCreate):
    """`ImageCreate`."""

    os: str
    version: str
    source: SnapshotImageSource


class BlankSource(Body):
    """An empty disk."""

    type: Literal["blank"]
    block_size: BlockSize


class SnapshotSource(Body):
    """A disk from a snapshot."""

    type: Literal["snapshot"]
    snapshot_id: Id
    read_only: bool = False


class ImageSource(Body):
    """A disk from an image."""

    type: Literal["image"]
    image_id: Id
    read_only: bool = False


class ImportSource(Body):
    """A disk that waits for its blocks."""

    type: Literal["importing_blocks"]
    block_size: BlockSize


DiskSource = Annotated[BlankSource | SnapshotSource | ImageSource | ImportSource, Field(discriminator="type")]


class Distributed(Body):
    """A disk on the rack's distributed storage."""

    type: Literal["distributed"]
    disk_source: DiskSource


class Local(Body):
    """A disk on the sled of its instance."""

    type: Literal["local"]


DiskBackend = Annotated[Distributed | Local, Field(discriminator="type")]


class DiskCreate(IdentityCreate):
    """`DiskCreate`."""

    size: ByteCount
    disk_backend: DiskBackend


class CreatedDisk(DiskCreate):
    """A disk made together with its instance."""

    type: Literal["create"]


class AttachedDisk(Body):
    """A disk that is already there."""

    type: Literal["attach"]
    name: Name


DiskAttachment = Annotated[CreatedDisk | AttachedDisk, Field(discriminator="type")]


class DiskPath(Body):
    """`DiskPath`."""

    disk: NameOrId


class BulkWrite(Body):
    """`ImportBlocksBulkWrite`."""

    offset: Annotated[int, Field(ge=0, lt=1 << 64)]
    base64_encoded_data: str


class FinalizeDisk(Body):
    """`FinalizeDisk`."""

    snapshot_name: Name | None = None
