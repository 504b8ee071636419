"""What exists in an Oxide region, as it is stored. `wire` says how a client sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal
from uuid import uuid4

from pydantic import BaseModel, Field

from emulators.region.records import Record


def now() -> datetime:
    """The time as the API writes it."""
    return datetime.now(UTC)


def new_id() -> str:
    """An id for something new."""
    return str(uuid4())


class InstanceState(StrEnum):
    """`InstanceState` of the API document."""

    CREATING = "creating"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    REBOOTING = "rebooting"
    FAILED = "failed"


class DiskState(StrEnum):
    """`DiskState` of the API document, without the instance that some of them name."""

    CREATING = "creating"
    DETACHED = "detached"
    ATTACHED = "attached"
    IMPORT_READY = "import_ready"
    IMPORTING_FROM_BULK_WRITES = "importing_from_bulk_writes"
    FINALIZING = "finalizing"
    FAULTED = "faulted"


class SnapshotState(StrEnum):
    """`SnapshotState` of the API document."""

    CREATING = "creating"
    READY = "ready"
    FAULTED = "faulted"


class Identified(Record):
    """What every named thing of the API has."""

    description: str = ""
    time_created: datetime = Field(default_factory=now)
    time_modified: datetime = Field(default_factory=now)


class Counts(BaseModel):
    """`VirtualResourceCounts`: CPUs, and bytes of memory and storage."""

    cpus: int = Field(ge=0)
    memory: int = Field(ge=0)
    storage: int = Field(ge=0)


class Silo(Identified):
    """A silo: users, projects and images that no other silo sees."""

    quotas: Counts


class Role(StrEnum):
    """What a user may do in the silo: a viewer may change nothing but what is the user's own."""

    ADMIN = "admin"
    COLLABORATOR = "collaborator"
    VIEWER = "viewer"


class User(Identified):
    """A user of a silo. The name is what `display_name` shows."""

    silo_id: str
    role: Role

    @property
    def scope(self) -> str:
        """The silo's id."""
        return self.silo_id


class Token(Record):
    """A bearer token. Its name is the digest of it, and it is kept nowhere."""

    user_id: str
    time_created: datetime = Field(default_factory=now)
    time_expires: datetime | None = None


class Grant(BaseModel):
    """A command line's request for a token, until someone grants or refuses it."""

    client_id: str
    user_code: str
    ttl_seconds: int | None
    until: datetime
    user: User | None = None
    denied: bool = False


class IpPool(Identified):
    """A pool of external addresses: one network."""

    network: str
    silos: dict[str, bool] = Field(default_factory=dict)
    """Ids of the silos that may use it, and whether it is the default there."""


class Project(Identified):
    """A project. Its name is unique in the silo."""

    silo_id: str

    @property
    def scope(self) -> str:
        """The silo's id."""
        return self.silo_id


class InProject(Identified):
    """Something whose name is unique in its project."""

    project_id: str

    @property
    def scope(self) -> str:
        """The project's id."""
        return self.project_id


class Vpc(InProject):
    """A VPC."""

    dns_name: str
    ipv6_prefix: str
    system_router_id: str = Field(default_factory=new_id)


class VpcSubnet(Identified):
    """A subnet. Its name is unique in its VPC."""

    vpc_id: str
    ipv4_block: str
    ipv6_block: str

    @property
    def scope(self) -> str:
        """The VPC's id."""
        return self.vpc_id


class SshKey(Identified):
    """An SSH key of a user."""

    silo_user_id: str
    public_key: str

    @property
    def scope(self) -> str:
        """The user's id."""
        return self.silo_user_id


class Disk(InProject):
    """A disk. `disk_type` is `distributed`, or `local` to a sled."""

    size: int
    block_size: int
    disk_type: Literal["distributed", "local"]
    state: DiskState = DiskState.CREATING
    instance_id: str | None = None
    image_id: str | None = None
    snapshot_id: str | None = None
    read_only: bool = False


class Snapshot(InProject):
    """A snapshot of a disk. It outlives the disk."""

    disk_id: str
    size: int
    block_size: int
    state: SnapshotState = SnapshotState.CREATING


class Image(Identified):
    """An image, of a project or (with no project) of the silo."""

    silo_id: str
    project_id: str | None
    os: str
    version: str
    size: int
    block_size: int
    source_mark: str | None = None
    """For an image that came with the region: which file it was copied from, and when that was last changed."""

    @property
    def scope(self) -> str:
        """The project's id, or the silo's."""
        return self.project_id or self.silo_id


class FloatingIp(InProject):
    """A floating IP: an address that is reserved by name and can be given to an instance."""

    ip: str
    ip_pool_id: str
    instance_id: str | None = None


class EphemeralIp(BaseModel):
    """An external address that lives as long as its instance has it."""

    ip: str
    ip_pool_id: str


class IpStack(BaseModel):
    """The addresses of an interface in one IP version."""

    ip: str
    transit_ips: list[str] = Field(default_factory=list)


class NetworkInterface(Identified):
    """A network interface. Its name is unique on its instance."""

    instance_id: str
    vpc_id: str
    subnet_id: str
    v4: IpStack | None = None
    v6: IpStack | None = None
    mac: str
    primary: bool

    @property
    def scope(self) -> str:
        """The instance's id."""
        return self.instance_id


class AntiAffinityGroup(InProject):
    """An anti-affinity group."""

    policy: Literal["allow", "fail"]
    failure_domain: Literal["sled"]
    members: list[str] = Field(default_factory=list)


class Instance(InProject):
    """An instance."""

    hostname: str
    memory: int
    ncpus: int
    state: InstanceState = InstanceState.CREATING
    boot_disk_id: str | None = None
    disk_ids: list[str] = Field(default_factory=list)
    """Every attached disk, the boot disk too."""
    ephemeral_ips: list[EphemeralIp] = Field(default_factory=list)
    """At most one of each IP version."""
    ssh_key_ids: list[str] = Field(default_factory=list)
    user_data: str = ""
    """Base64, as it came."""
    auto_restart_policy: Literal["never", "best_effort"] | None = None
    cpu_platform: Literal["amd_milan", "amd_turin", "amd_turin_v2"] | None = None
    enable_jumbo_frames: bool = False
    behaviour: dict[str, object] = Field(default_factory=dict)
    """What faults and the control endpoint have told its machine."""
    time_run_state_updated: datetime = Field(default_factory=now)
    time_last_auto_restarted: datetime | None = None
