"""What we read from and send to an Oxide region: the parts of its OpenAPI document (2026060800.0.0) that we use.

Replies may hold more than this, and states that are newer than this list: neither is an error.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

GIB = 1024**3

NAME_PATTERN = r"^[a-z]([a-z0-9-]*[a-z0-9])?$"
"""A name as the server takes it. The document's own pattern allows upper case; the server refuses it."""
NAME_LENGTH = 63
DESCRIPTION_LENGTH = 512


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Resource(_Reply):
    """What every named resource has."""

    id: str
    name: str
    description: str
    time_created: datetime


class Project(Resource):
    """A project: the scope of instances, disks, snapshots, and of images that are no silo images."""


class Image(Resource):
    """An image, of a project or (without one) of the silo."""

    os: str
    version: str
    size: int
    block_size: int
    project_id: str | None = None


class Instance(Resource):
    """A virtual machine. `run_state` as in the document's InstanceState."""

    project_id: str
    hostname: str
    run_state: str
    boot_disk_id: str | None = None


class DiskState(_Reply):
    """A disk's state; `instance` is set while it is attached, attaching or detaching."""

    state: str
    instance: str | None = None


class Disk(Resource):
    """A disk."""

    project_id: str
    size: int
    state: DiskState


class Snapshot(Resource):
    """A snapshot of a disk."""

    project_id: str
    disk_id: str
    size: int
    state: str


class SshKey(Resource):
    """A public key of the user that the token belongs to."""

    public_key: str


class ExternalIp(_Reply):
    """An address by which an instance is reached (`ephemeral`, `floating`) or reaches others (`snat`)."""

    kind: str
    ip: str


class SerialConsole(_Reply):
    """A piece of what a guest wrote to its serial console."""

    data: bytes
    last_byte_offset: int

    @classmethod
    def from_reply(cls, reply: dict[str, Any]) -> SerialConsole:
        """Read the reply, whose `data` is a list of numbers."""
        return cls(data=bytes(reply["data"]), last_byte_offset=reply["last_byte_offset"])


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageSource(_Request):
    """A disk that starts as a copy of an image."""

    type: Literal["image"] = "image"
    image_id: str


class DistributedDisk(_Request):
    """The rack's replicated storage."""

    type: Literal["distributed"] = "distributed"
    disk_source: ImageSource


class BootDisk(_Request):
    """A boot disk that is made together with its instance."""

    type: Literal["create"] = "create"
    name: str
    description: str
    size: int
    disk_backend: DistributedDisk


class AutoIp(_Request):
    """An address chosen by the rack."""

    type: Literal["auto"] = "auto"


class PrivateIpv4(_Request):
    """A network interface's address."""

    ip: AutoIp = AutoIp()
    transit_ips: list[str] = []


class PrivateIpStack(_Request):
    """Which address families a network interface has."""

    type: Literal["v4"] = "v4"
    value: PrivateIpv4 = PrivateIpv4()


class NetworkInterface(_Request):
    """A network interface that is made together with its instance."""

    name: str
    description: str
    vpc_name: str
    subnet_name: str
    ip_config: PrivateIpStack = PrivateIpStack()


class NetworkInterfaces(_Request):
    """The network interfaces of a new instance."""

    type: Literal["create"] = "create"
    params: list[NetworkInterface]


class AutoPool(_Request):
    """The silo's default pool of addresses."""

    type: Literal["auto"] = "auto"
    ip_version: Literal["v4", "v6"] = "v4"


class ExplicitPool(_Request):
    """A pool of addresses by name or id."""

    type: Literal["explicit"] = "explicit"
    pool: str


class EphemeralIp(_Request):
    """An address that lives as long as its instance."""

    type: Literal["ephemeral"] = "ephemeral"
    pool_selector: Annotated[AutoPool | ExplicitPool, Field(discriminator="type")]


class InstanceCreate(_Request):
    """A new instance."""

    name: str
    description: str
    hostname: str
    memory: int
    ncpus: int
    boot_disk: BootDisk
    network_interfaces: NetworkInterfaces
    external_ips: list[EphemeralIp]
    ssh_public_keys: list[str]
    """An empty list injects no key; leaving it out would inject all of the user's."""
    user_data: str = ""
    start: bool = True
    auto_restart_policy: Literal["never", "best_effort"] = "never"


class SnapshotSource(_Request):
    """An image made of a snapshot."""

    type: Literal["snapshot"] = "snapshot"
    id: str


class ImageCreate(_Request):
    """A new image."""

    name: str
    description: str
    os: str
    version: str
    source: SnapshotSource
