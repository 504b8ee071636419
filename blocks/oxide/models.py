"""What we read from an Oxide region: the parts of its OpenAPI document (2026060800.0.0) that we use.

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


class FloatingIp(Resource):
    """An address that a project holds by name."""

    ip: str
    instance_id: str | None = None
    """Who has it now."""


class IpPool(Resource):
    """A pool of addresses, as the silo sees it."""

    ip_version: str
    pool_type: str
    is_default: bool


class Vpc(Resource):
    """A virtual network of a project."""


class VpcSubnet(Resource):
    """A subnet of a VPC."""


class AntiAffinityGroup(Resource):
    """Instances that are to be on different sleds."""


class _PrivateIp(_Reply):
    ip: str


class _SingleStack(_Reply):
    type: Literal["v4", "v6"]
    value: _PrivateIp


class _BothValues(_Reply):
    v4: _PrivateIp
    v6: _PrivateIp


class _DualStack(_Reply):
    type: Literal["dual_stack"]
    value: _BothValues


class InterfaceView(Resource):
    """A network interface that an instance has."""

    primary: bool
    ip_stack: Annotated[_SingleStack | _DualStack, Field(discriminator="type")]

    @property
    def ip(self) -> str:
        """Its address in its VPC; of two the IPv4 one."""
        value = self.ip_stack.value
        return value.v4.ip if isinstance(value, _BothValues) else value.ip


class Amounts(_Reply):
    """Virtual CPUs, and memory and storage in bytes."""

    cpus: int
    memory: int
    storage: int


class Utilization(_Reply):
    """What the silo may have, and what of it is used. Instances that are off count with their disks alone."""

    capacity: Amounts
    provisioned: Amounts


class SerialConsole(_Reply):
    """A piece of what a guest wrote to its serial console."""

    data: bytes
    last_byte_offset: int

    @classmethod
    def from_reply(cls, reply: dict[str, Any]) -> SerialConsole:
        """Read the reply, whose `data` is a list of numbers."""
        return cls(data=bytes(reply["data"]), last_byte_offset=reply["last_byte_offset"])
