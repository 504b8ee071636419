"""The options of the temporary instance, with the names of the Packer plugin where it has them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from blocks.errors import Mistake
from blocks.oxide.models import GIB, NAME_LENGTH, NAME_PATTERN
from blocks.oxide.requests import DualStack, IpVersion, SingleStack
from blocks.settings import settings
from tasks.oxide.option_types import Form, ImageChoice, Name, NameOrId, WholeGib, one_of, zero_is
from tasks.provisioners.common import must_exist, on_this_host
from tasks.quantities import Seconds

USER_DATA_LENGTH = 32 * 1024
"""Bytes, before Base64 (API document, InstanceCreate)."""
MOST_DISKS = 12
"""Disks of an instance, its boot disk counted."""
MOST_KEYS = 100
"""SSH keys of an instance, the temporary one counted."""
_SUFFIX_LENGTH = 32


def _check_user_data(value: str) -> str:
    if len(value.encode()) > USER_DATA_LENGTH:
        raise PydanticCustomError("user_data", "must be of at most 32 KiB")
    return value


class FloatingIpChoice(Form):
    """A floating IP of the build's project."""

    model_config = ConfigDict(title="Floating IP")

    floating: NameOrId = Field(
        title="Floating IP",
        description="Name or id of a floating IP of the project that nobody uses.",
        json_schema_extra={"position": 0},
    )


class ExtraDisk(Form):
    """A disk besides the boot disk. It is temporary, and no part of the image."""

    model_config = ConfigDict(title="Extra disk")

    name: str = Field(
        title="Name",
        description="What its name ends in; the rest is the build's.",
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        max_length=_SUFFIX_LENGTH,
        json_schema_extra={"position": 0},
    )
    size: WholeGib | None = Field(
        default=None,
        ge=GIB,
        le=1023 * GIB,
        title="Size",
        description="Whole GiB: 20GiB, or bytes. Default: that of the image or snapshot.",
        json_schema_extra={"position": 1},
    )
    image: ImageChoice | None = Field(
        default=None,
        title="Image",
        description="The image that it starts as a copy of.",
        json_schema_extra={"position": 2},
    )
    snapshot: NameOrId | None = Field(
        default=None,
        title="Snapshot",
        description="Name or id of the snapshot of the project that it starts as a copy of.",
        json_schema_extra={"position": 3},
    )
    block_size: Literal[512, 2048, 4096] = Field(
        default=4096,
        title="Block size",
        description="Bytes in a block of a disk that starts empty.",
        json_schema_extra={"position": 4},
    )

    @model_validator(mode="after")
    def _one_source(self) -> ExtraDisk:
        if self.image is not None and self.snapshot is not None:
            raise ValueError("takes image or snapshot, not both")
        if self.image is None and self.snapshot is None and self.size is None:
            raise ValueError("needs a size, an image or a snapshot")
        return self


class InstanceOptions(BaseModel):
    """What the temporary instance is like, and how patiently it is waited for."""

    cpus: Annotated[int, zero_is(1)] = Field(
        default=1,
        ge=0,
        le=254,
        title="CPUs",
        description="Virtual CPUs of the instance; 0: 1.",
        json_schema_extra={"position": 20},
    )
    memory: Annotated[WholeGib, zero_is(2 * GIB)] = Field(
        default=2 * GIB,
        ge=0,
        le=1536 * GIB,
        title="Memory",
        description="Memory of the instance, whole GiB: 2GiB, or bytes; 0: 2GiB.",
        json_schema_extra={"position": 21},
    )
    boot_disk_size: Annotated[WholeGib, zero_is(20 * GIB)] = Field(
        default=20 * GIB,
        ge=0,
        le=1023 * GIB,
        title="Boot disk size",
        description="Size of the boot disk, whole GiB and at least the source image's: 20GiB, or bytes; 0: 20GiB.",
        json_schema_extra={"position": 22},
    )
    name: Name | None = Field(
        default=None,
        title="Instance name",
        description="Name of instance, boot disk, network interface and snapshot. Default: one that no other run has.",
        json_schema_extra={"position": 23},
    )
    hostname: Name | None = Field(
        default=None,
        title="Host name",
        description="Host name of the instance. Default: the default of the instance's name.",
        json_schema_extra={"position": 24},
    )
    extra_disks: list[ExtraDisk] = Field(
        default_factory=list,
        max_length=MOST_DISKS - 1,
        title="Extra disks",
        description="Disks besides the boot disk, for the build alone: {name: …, size: 20GiB}, empty (with a "
        "block_size of 512, 2048 or 4096), or as a copy of an image or a snapshot.",
        json_schema_extra={"position": 25},
    )
    user_data: Annotated[str, AfterValidator(_check_user_data)] | None = Field(
        default=None,
        title="User data",
        description="For cloud-init, as it is: the build encodes it. At most 32 KiB. Stored in clear: no secrets.",
        json_schema_extra={"position": 26},
    )
    user_data_file: str | None = Field(
        default=None,
        min_length=1,
        title="User data file",
        description="A file of the host that builds, in place of user_data.",
        json_schema_extra={"position": 27},
    )
    ssh_public_keys: list[NameOrId] = Field(
        default_factory=list,
        max_length=MOST_KEYS - 1,
        title="SSH public keys",
        description="Names or ids of further public keys of the token's user that are let in.",
        json_schema_extra={"position": 28},
    )
    anti_affinity_groups: list[NameOrId] = Field(
        default_factory=list,
        title="Anti-affinity groups",
        description="Names or ids of groups whose instances are to be on other sleds.",
        json_schema_extra={"position": 29},
    )
    vpc: str = Field(
        default="default",
        pattern=NAME_PATTERN,
        max_length=NAME_LENGTH,
        title="VPC",
        description="Name of the VPC.",
        json_schema_extra={"position": 40},
    )
    subnet: str = Field(
        default="default",
        pattern=NAME_PATTERN,
        max_length=NAME_LENGTH,
        title="Subnet",
        description="Name of the VPC's subnet.",
        json_schema_extra={"position": 41},
    )
    external_ip: Annotated[
        Annotated[Literal["ephemeral", "none"], Field(title="Ephemeral or none")] | FloatingIpChoice,
        one_of("ephemeral, none or {floating: NAME}"),
    ] = Field(
        default="ephemeral",
        title="External address",
        description="ephemeral: one for the build; {floating: NAME}: one that the project holds; none: the instance "
        "is reached by its private address.",
        json_schema_extra={"position": 42},
    )
    ip_version: Literal["v4", "v6", "dual"] = Field(
        default="v4",
        title="IP version",
        description="Address families of the network interface. The build uses the IPv4 address of dual.",
        json_schema_extra={"position": 43},
    )
    ip_pool: NameOrId | None = Field(
        default=None,
        title="IP pool",
        description="Name or id of the pool of the ephemeral address. Default: the silo's.",
        json_schema_extra={"position": 44},
    )
    ip_pools: list[NameOrId] = Field(
        default_factory=list,
        title="IP pools",
        description="Several pools: the next is asked when one has no address left.",
        json_schema_extra={"position": 45},
    )
    start_timeout: Seconds | None = Field(
        default=None,
        gt=0,
        title="Start time-out",
        description="How long the instance may take to run: 90s, 5m. Default: 5m.",
        json_schema_extra={"position": 30},
    )
    stop_timeout: Seconds | None = Field(
        default=None,
        gt=0,
        title="Stop time-out",
        description="How long the guest may take to shut itself down before its power is cut. Default: 2m.",
        json_schema_extra={"position": 31},
    )
    capacity_retry: Seconds = Field(
        default=0,
        ge=0,
        title="Wait for capacity",
        description="How long to ask again while the rack or the quota has no room: 30m. Default: not at all.",
        json_schema_extra={"position": 32},
    )

    temporary_key_pair_name: Name | None = Field(
        default=None,
        title="Temporary key's name",
        description="Name of the public key on the rack while the build runs. Default: one that no other run has.",
        json_schema_extra={"position": 124},
    )

    @property
    def pools(self) -> list[str | None]:
        """The pools of the ephemeral address, in the order in which they are asked; None: the silo's default."""
        return [*self.ip_pools] or [self.ip_pool]

    @property
    def external_version(self) -> IpVersion:
        """The family of an external address of the silo's default pool."""
        return "v6" if self.ip_version == "v6" else "v4"

    @property
    def seconds_to_start(self) -> float:
        """How long the instance may take to run."""
        return self.start_timeout or settings().start_timeout

    @property
    def seconds_to_shut_down(self) -> float:
        """How long the guest may take to shut itself down."""
        return self.stop_timeout or settings().shutdown_timeout

    @property
    def ip_stack(self) -> SingleStack | DualStack:
        """The network interface's address families."""
        return DualStack() if self.ip_version == "dual" else SingleStack(type=self.ip_version)

    def mistakes_in_instance(self, base: Path) -> list[Mistake]:
        """Options that do not go together, and files that this host does not have."""
        found = [
            Mistake(other, f"cannot be given together with {one}")
            for one, other in (("user_data", "user_data_file"), ("ip_pool", "ip_pools"))
            if getattr(self, one) and getattr(self, other)
        ]
        if self.external_ip != "ephemeral":
            found += [
                Mistake(option, "is for an external_ip that is ephemeral")
                for option in ("ip_pool", "ip_pools")
                if getattr(self, option)
            ]
        names = [disk.name for disk in self.extra_disks]
        found += [
            Mistake(f"extra_disks[{place}].name", "must be another than that of the other disks", name)
            for place, name in enumerate(names)
            if name in names[:place]
        ]
        return found + self._mistakes_in_user_data_file(base)

    def _mistakes_in_user_data_file(self, base: Path) -> list[Mistake]:
        option, name = "user_data_file", self.user_data_file
        if name is None:
            return []
        if missing := must_exist(base, name, option):
            return missing
        path = on_this_host(base, name)
        if not path.is_file():
            return [Mistake(option, f"must be a file ({path})", name)]
        if path.stat().st_size > USER_DATA_LENGTH:
            return [Mistake(option, f"must be of at most 32 KiB ({path})", name)]
        return []

    def given_user_data(self, base: Path) -> bytes:
        """The user data, as the guest is to have it."""
        if self.user_data_file is not None:
            return on_this_host(base, self.user_data_file).read_bytes()
        return (self.user_data or "").encode()
