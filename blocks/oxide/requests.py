"""What we send to an Oxide region: the parts of its OpenAPI document (2026060800.0.0) that we use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

IpVersion = Literal["v4", "v6"]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageSource(_Request):
    """A disk that starts as a copy of an image."""

    type: Literal["image"] = "image"
    image_id: str


class DiskOfSnapshot(_Request):
    """A disk that starts as a copy of a snapshot."""

    type: Literal["snapshot"] = "snapshot"
    snapshot_id: str


class BlankDisk(_Request):
    """A disk of zeros."""

    type: Literal["blank"] = "blank"
    block_size: Literal[512, 2048, 4096]


DiskSource = Annotated[ImageSource | DiskOfSnapshot | BlankDisk, Field(discriminator="type")]


class DistributedDisk(_Request):
    """The rack's replicated storage."""

    type: Literal["distributed"] = "distributed"
    disk_source: DiskSource


class NewDisk(_Request):
    """A disk that is made together with its instance."""

    type: Literal["create"] = "create"
    name: str
    description: str
    size: int
    disk_backend: DistributedDisk


class AutoIp(_Request):
    """An address chosen by the rack."""

    type: Literal["auto"] = "auto"


class PrivateIp(_Request):
    """A network interface's address of one family."""

    ip: AutoIp = AutoIp()
    transit_ips: list[str] = []


class SingleStack(_Request):
    """A network interface with addresses of one family."""

    type: IpVersion
    value: PrivateIp = PrivateIp()


class BothStacks(_Request):
    """An address of each family."""

    v4: PrivateIp = PrivateIp()
    v6: PrivateIp = PrivateIp()


class DualStack(_Request):
    """A network interface with addresses of both families."""

    type: Literal["dual_stack"] = "dual_stack"
    value: BothStacks = BothStacks()


class NetworkInterface(_Request):
    """A network interface that is made together with its instance."""

    name: str
    description: str
    vpc_name: str
    subnet_name: str
    ip_config: SingleStack | DualStack = SingleStack(type="v4")


class NetworkInterfaces(_Request):
    """The network interfaces of a new instance."""

    type: Literal["create"] = "create"
    params: list[NetworkInterface]


class AutoPool(_Request):
    """The silo's default pool of addresses."""

    type: Literal["auto"] = "auto"
    ip_version: IpVersion = "v4"


class ExplicitPool(_Request):
    """A pool of addresses by name or id."""

    type: Literal["explicit"] = "explicit"
    pool: str


class EphemeralIp(_Request):
    """An address that lives as long as its instance."""

    type: Literal["ephemeral"] = "ephemeral"
    pool_selector: Annotated[AutoPool | ExplicitPool, Field(discriminator="type")]


class FloatingIpOfInstance(_Request):
    """An address that the project holds."""

    type: Literal["floating"] = "floating"
    floating_ip: str


class InstanceCreate(_Request):
    """A new instance."""

    name: str
    description: str
    hostname: str
    memory: int
    ncpus: int
    boot_disk: NewDisk
    disks: list[NewDisk] = []
    """Besides the boot disk."""
    network_interfaces: NetworkInterfaces
    external_ips: list[EphemeralIp | FloatingIpOfInstance]
    ssh_public_keys: list[str]
    """An empty list injects no key; leaving it out would inject all of the user's."""
    anti_affinity_groups: list[str] = []
    user_data: str = ""
    """Base64 (RFC 4648, section 4) of at most 32 KiB."""
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
