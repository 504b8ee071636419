"""What clients send for instances and their groups."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from pydantic import Field

from emulators.oxide.bodies.base import Body, ByteCount, Hostname, IdentityCreate, NameOrId
from emulators.oxide.bodies.networks import DefaultInterfaces, ExternalIp, Interfaces
from emulators.oxide.bodies.storage import DiskAttachment
from emulators.oxide.errors import bad_request, invalid_value


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
    disks: list[DiskAttachment] = Field(default_factory=list)
    network_interfaces: Interfaces = DefaultInterfaces(type="default_dual_stack")
    external_ips: list[ExternalIp] = Field(default_factory=list)
    ssh_public_keys: list[NameOrId] | None = None
    user_data: str = ""
    start: bool = True
    auto_restart_policy: Literal["never", "best_effort"] | None = None
    anti_affinity_groups: list[NameOrId] = Field(default_factory=list)
    cpu_platform: Literal["amd_milan", "amd_turin", "amd_turin_v2"] | None = None
    enable_jumbo_frames: bool = False
    multicast_groups: list[dict[str, object]] = Field(default_factory=list)


class InstanceUpdate(Body):
    """`InstanceUpdate`: the whole of what can be changed."""

    memory: ByteCount
    ncpus: Annotated[int, Field(ge=0, lt=1 << 16)]
    boot_disk: NameOrId | None
    auto_restart_policy: Literal["never", "best_effort"] | None
    cpu_platform: Literal["amd_milan", "amd_turin", "amd_turin_v2"] | None
    enable_jumbo_frames: bool
    multicast_groups: list[dict[str, object]] | None = None


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
