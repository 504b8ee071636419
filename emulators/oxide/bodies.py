"""What clients send, with the API document's names and limits.

The models are strict, as the server's parser is: a number in quotes is refused, an unknown field is ignored.
"""

from __future__ import annotations

import base64
import binascii
import re
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from emulators.oxide.errors import bad_request, invalid_value

_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def is_uuid(text: str) -> bool:
    """Whether a NameOrId is an id."""
    return _UUID.fullmatch(text) is not None


def check_name(text: str) -> str:
    """Return a name that the server takes. It refuses the upper case that the document's pattern allows.

    Raises:
        ValueError: it does not, with the server's words.
    """
    if not text:
        raise ValueError("name requires at least one character")
    if len(text) > 63:
        raise ValueError("name may contain at most 63 characters")
    if is_uuid(text):
        raise ValueError("name cannot be a UUID to avoid ambiguity with IDs")
    if not "a" <= text[0] <= "z":
        raise ValueError("name must begin with an ASCII lowercase character")
    if _NAME.fullmatch(text) is None:
        raise ValueError(
            'name contains invalid character (allowed characters are lowercase ASCII, digits, and "-"; '
            'a name cannot end with "-")'
        )
    return text


def _check_name_or_id(text: str) -> str:
    return text if is_uuid(text) else check_name(text)


def _check_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError("UUID parsing failed") from None


def _check_hostname(text: str) -> str:
    if len(text) > 253 or _HOSTNAME.fullmatch(text) is None:
        raise ValueError("hostname must comply with RFC 1035")
    return text


def _check_ipv4(text: str) -> str:
    return str(IPv4Address(text))


def _check_ipv4_network(text: str) -> str:
    return str(IPv4Network(text))


Name = Annotated[str, AfterValidator(check_name)]
NameOrId = Annotated[str, AfterValidator(_check_name_or_id)]
Id = Annotated[str, AfterValidator(_check_id)]
Hostname = Annotated[str, AfterValidator(_check_hostname)]
Ipv4 = Annotated[str, AfterValidator(_check_ipv4)]
Ipv4Net = Annotated[str, AfterValidator(_check_ipv4_network)]
Description = Annotated[str, Field(max_length=512)]
ByteCount = Annotated[int, Field(ge=0, lt=1 << 63)]
BlockSize = Literal[512, 2048, 4096]


class Body(BaseModel):
    """A request body."""

    model_config = ConfigDict(strict=True)


class IdentityCreate(Body):
    """What every create takes."""

    name: Name
    description: Description


class ProjectCreate(IdentityCreate):
    """`ProjectCreate`."""


class SshKeyCreate(IdentityCreate):
    """`SshKeyCreate`."""

    public_key: str


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


class AutoAddress(Body):
    """Any address of the subnet."""

    type: Literal["auto"]


class ExplicitAddress(Body):
    """This address of the subnet."""

    type: Literal["explicit"]
    value: Ipv4


class Ipv4Stack(Body):
    """`PrivateIpv4StackCreate`."""

    ip: Annotated[AutoAddress | ExplicitAddress, Field(discriminator="type")]
    transit_ips: list[Ipv4Net] = []


class Ipv4Config(Body):
    """An interface with an IPv4 address."""

    type: Literal["v4"]
    value: Ipv4Stack


class OtherIpConfig(Body):
    """An interface with an IPv6 address: this region has none."""

    type: Literal["v6", "dual_stack"]


IpConfig = Annotated[Ipv4Config | OtherIpConfig, Field(discriminator="type")]


class NetworkInterfaceCreate(IdentityCreate):
    """`InstanceNetworkInterfaceCreate`."""

    vpc_name: Name
    subnet_name: Name
    ip_config: IpConfig | None = None


class CreatedInterfaces(Body):
    """Interfaces named one by one."""

    type: Literal["create"]
    params: list[NetworkInterfaceCreate]


class DefaultInterfaces(Body):
    """One interface on the default subnet, or none."""

    type: Literal["default_ipv4", "default_ipv6", "default_dual_stack", "none"]


Interfaces = Annotated[CreatedInterfaces | DefaultInterfaces, Field(discriminator="type")]


class ExplicitPool(Body):
    """This pool."""

    type: Literal["explicit"]
    pool: NameOrId


class AutoPool(Body):
    """The silo's default pool."""

    type: Literal["auto"]
    ip_version: Literal["v4", "v6"] | None = None


PoolSelector = Annotated[ExplicitPool | AutoPool, Field(discriminator="type")]


class EphemeralIp(Body):
    """An address for as long as the instance lives."""

    type: Literal["ephemeral"]
    pool_selector: PoolSelector = AutoPool(type="auto")


class FloatingIpOfInstance(Body):
    """A floating IP that is already there."""

    type: Literal["floating"]
    floating_ip: NameOrId


ExternalIp = Annotated[EphemeralIp | FloatingIpOfInstance, Field(discriminator="type")]


class ExplicitAllocation(Body):
    """This address."""

    type: Literal["explicit"]
    ip: Ipv4


class AutoAllocation(Body):
    """Any address of a pool."""

    type: Literal["auto"]
    pool_selector: PoolSelector = AutoPool(type="auto")


class FloatingIpCreate(IdentityCreate):
    """`FloatingIpCreate`."""

    address_allocator: Annotated[ExplicitAllocation | AutoAllocation, Field(discriminator="type")] = AutoAllocation(
        type="auto"
    )


class FloatingIpAttach(Body):
    """`FloatingIpAttach`."""

    kind: Literal["instance"]
    parent: NameOrId


class AntiAffinityGroupCreate(IdentityCreate):
    """`AntiAffinityGroupCreate`."""

    policy: Literal["allow", "fail"]
    failure_domain: Literal["sled"]


class InstanceCreate(IdentityCreate):
    """`InstanceCreate`."""

    hostname: Hostname
    memory: ByteCount
    ncpus: Annotated[int, Field(ge=0, lt=1 << 16)]
    boot_disk: DiskAttachment | None = None
    disks: list[DiskAttachment] = []
    network_interfaces: Interfaces = DefaultInterfaces(type="default_dual_stack")
    external_ips: list[ExternalIp] = []
    ssh_public_keys: list[NameOrId] | None = None
    user_data: str = ""
    start: bool = True
    auto_restart_policy: Literal["never", "best_effort"] | None = None
    anti_affinity_groups: list[NameOrId] = []
    cpu_platform: Literal["amd_milan", "amd_turin", "amd_turin_v2"] | None = None
    enable_jumbo_frames: bool = False


B = TypeVar("B", bound=Body)


def parse(model: type[B], body: bytes) -> B:
    """Read a request body.

    Raises:
        ApiError: 400 without an error code, as for everything that the server's parser refuses.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            text = f"missing field `{first['loc'][-1]}`"
        raise bad_request(f"unable to parse JSON body: {where + ': ' if where else ''}{text}") from None


def decode_user_data(text: str) -> bytes:
    """Decode `user_data`, at most 32 KiB of it.

    Raises:
        ApiError: it is no base64, or too long.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise bad_request(f"unable to parse JSON body: user_data: invalid base64: {error}") from None
    if len(data) > 32 * 1024:
        raise invalid_value("user_data", "user_data must be at most 32768 bytes long")
    return data
