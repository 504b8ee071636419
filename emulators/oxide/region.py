"""The region's state: what exists, where it is stored, and how it is looked up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emulators.machines import Machines
from emulators.oxide.records import (
    AntiAffinityGroup,
    Disk,
    EphemeralIp,
    FloatingIp,
    Grant,
    Identified,
    Image,
    Instance,
    IpPool,
    NetworkInterface,
    Project,
    Silo,
    Snapshot,
    SshKey,
    Token,
    User,
    Vpc,
    VpcSubnet,
    new_id,
)
from emulators.region import faults
from emulators.region.addresses import AddressPool, random_network
from emulators.region.home import RegionError
from emulators.region.records import Collection, write_private
from emulators.region.requests import RequestLog

FAULT_KINDS = frozenset(
    {
        "capacity",
        "start_fails",
        "instance_failed",
        "never_boots",
        "slow_boot",
        "behaviour",
        "disk_faulted",
    }
)
"""Faults that only this region knows; `app`, `instances` and `disks` say what they do."""

Seconds = Annotated[float, Field(ge=0)]


class Identity(BaseModel):
    """What a region is from its first start on."""

    format: Literal[2]
    """Of the records; grows when those of a former version can no longer be read."""
    silo_id: str = Field(default_factory=new_id)
    user_id: str = Field(default_factory=new_id)
    pool_id: str = Field(default_factory=new_id)
    network: str

    @classmethod
    def of(cls, directory: Path, network: IPv4Network | None = None) -> Identity:
        """What is recorded in a state directory, or something new that is recorded now.

        Raises:
            RegionError: the state directory is of another version of this emulator.
        """
        path = directory / "identity.json"
        if path.exists():
            try:
                identity = cls.model_validate_json(path.read_bytes())
            except ValidationError:
                raise RegionError(
                    f"{directory} holds a region of another version of this emulator: "
                    "remove it, or choose another --state directory"
                ) from None
            if network is None or str(network) == identity.network:
                return identity
            identity.network = str(network)
        else:
            identity = cls(format=2, network=str(network or random_network()))
        write_private(path, identity.model_dump_json())
        return identity


class Times(BaseModel):
    """How long the control plane takes, in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    create: Seconds = 0.0
    """Until an instance is made."""
    start: Seconds = 0.0
    """From `starting` to `running`."""
    stop: Seconds = 0.0
    """From `stopping` to `stopped`."""
    reboot: Seconds = 0.0
    """From `rebooting` to `running`."""
    disk: Seconds = 0.0
    """Until a disk is made that no instance comes with."""
    snapshot: Seconds = 0.0
    """Until a snapshot is made."""
    image: Seconds = 0.0
    """Until an image is made."""
    restart: Seconds = 10.0
    """From an instance's failure to its automatic restart."""
    restart_cooldown: Seconds = 300.0
    """Between two automatic restarts of one instance."""


@dataclass(frozen=True)
class Struck(faults.Struck):
    """The faults that strike one request."""

    def behaviour(self) -> dict[str, object]:
        """What these faults tell an instance's machine."""
        behaviour: dict[str, object] = {}
        if self.by("never_boots"):
            behaviour["never_boots"] = True
        if slow := self.by("slow_boot"):
            behaviour["boot_seconds"] = slow.number("seconds", 60)
        if other := self.by("behaviour"):
            behaviour |= other.mapping("behaviour")
        return behaviour


class OxideRegion:
    """Everything that exists, on the file system and in memory."""

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        machines: Machines,
        *,
        ssh_port: int,
        times: Times | None = None,
    ) -> None:
        self.directory = directory
        self.machines = machines
        self.times = times or Times()
        self.identity = identity
        self.ssh_port = ssh_port
        self.requests = RequestLog()
        self.faults = faults.Faults(FAULT_KINDS)

        records = directory / "records"
        self.silos = Collection(records / "silos", Silo)
        self.users = Collection(records / "users", User)
        self.tokens = Collection(records / "tokens", Token)
        self.pools = Collection(records / "ip-pools", IpPool)
        self.projects = Collection(records / "projects", Project)
        self.vpcs = Collection(records / "vpcs", Vpc)
        self.vpc_subnets = Collection(records / "vpc-subnets", VpcSubnet)
        self.ssh_keys = Collection(records / "ssh-keys", SshKey)
        self.disks = Collection(records / "disks", Disk)
        self.snapshots = Collection(records / "snapshots", Snapshot)
        self.images = Collection(records / "images", Image)
        self.floating_ips = Collection(records / "floating-ips", FloatingIp)
        self.interfaces = Collection(records / "network-interfaces", NetworkInterface)
        self.groups = Collection(records / "anti-affinity-groups", AntiAffinityGroup)
        self.instances = Collection(records / "instances", Instance)
        for room in ("disks", "snapshots", "images", "machines"):
            (directory / room).mkdir(exist_ok=True, mode=0o700)

        self.image_names: set[tuple[str, str]] = set()
        """Names of images that are being made: an image cannot be seen until it is whole."""
        self.private_ips = {
            (nic.subnet_id, stack.ip) for nic in self.interfaces for stack in (nic.v4, nic.v6) if stack is not None
        }
        self.grants: dict[str, Grant] = {}
        """Requests for a token by their device codes."""
        self.sleds = 32
        """How many instances of one anti-affinity group can run apart from each other."""
        self.behaviour: dict[str, object] = {}
        """What every machine is told, unless its instance's own behaviour says otherwise."""
        self.addresses = {pool.id: self._address_pool(pool) for pool in self.pools}
        """What is free of each pool."""
        for given in self._given():
            self.addresses[given.ip_pool_id].reserve([given.ip])

    def _given(self) -> Iterator[EphemeralIp | FloatingIp]:
        yield from self.floating_ips
        for instance in self.instances:
            yield from instance.ephemeral_ips

    def _address_pool(self, pool: IpPool) -> AddressPool:
        return AddressPool(ip_network(pool.network), self.ssh_port)

    def add_pool(self, pool: IpPool) -> None:
        """Take on a pool of external addresses, or another network for one."""
        self.pools.save(pool)
        self.addresses[pool.id] = self._address_pool(pool)
        self.addresses[pool.id].reserve(given.ip for given in self._given() if given.ip_pool_id == pool.id)

    @property
    def token_file(self) -> Path:
        """The file that holds the first user's API token."""
        return self.directory / "token"

    @property
    def token(self) -> str:
        """The first user's API token."""
        return self.token_file.read_text().strip()

    def path(self, record: Disk | Snapshot | Image) -> Path:
        """The disk file of a disk, snapshot or image."""
        room = {Disk: "disks", Snapshot: "snapshots", Image: "images"}[type(record)]
        return self.directory / room / f"{record.id}.raw"

    def inventory(self) -> dict[str, Any]:
        """Everything that exists, for the control endpoint."""
        projects = {project.id: project.name for project in self.projects}
        silos = {silo.id: silo.name for silo in self.silos}

        def entry(record: Identified, state: str | None = None, **more: Any) -> dict[str, Any]:
            project_id = getattr(record, "project_id", None)
            return {
                "id": record.id,
                "name": record.name,
                "description": record.description,
                "project": projects.get(project_id) if project_id else None,
                "state": state,
                "time_created": record.time_created.isoformat(),
                **more,
            }

        resources = {
            "projects": [entry(project, silo=silos[project.silo_id]) for project in self.projects],
            "instances": [
                entry(
                    i,
                    i.state,
                    address=next(iter(self.ssh_addresses(i)), None),
                    boot_disk_id=i.boot_disk_id,
                    disk_ids=i.disk_ids,
                    behaviour=i.behaviour,
                )
                for i in self.instances
            ],
            "disks": [
                entry(d, d.state, path=str(self.path(d)), size=d.size, instance_id=d.instance_id) for d in self.disks
            ],
            "snapshots": [
                entry(s, s.state, path=str(self.path(s)), size=s.size, disk_id=s.disk_id) for s in self.snapshots
            ],
            "images": [
                entry(i, path=str(self.path(i)), size=i.size, of_region=i.source_mark is not None) for i in self.images
            ],
            "ssh_keys": [entry(record, public_key=record.public_key) for record in self.ssh_keys],
            "floating_ips": [entry(f, ip=f.ip, instance_id=f.instance_id) for f in self.floating_ips],
            "network_interfaces": [entry(record, instance_id=record.instance_id) for record in self.interfaces],
            "anti_affinity_groups": [entry(record, members=record.members) for record in self.groups],
        }
        operator = {
            "silos": [entry(silo, quotas=silo.quotas.model_dump()) for silo in self.silos],
            "users": [entry(user, silo=silos[user.silo_id], role=user.role) for user in self.users],
            "ip_pools": [entry(pool, network=pool.network) for pool in self.pools],
        }
        return {"region": "oxide", "machines": self.machines.name, "resources": resources, "operator": operator}

    def silo_of(self, project_id: str) -> str:
        """The id of a project's silo."""
        project = self.projects.get(project_id)
        assert project is not None
        return project.silo_id

    def ssh_addresses(self, instance: Instance) -> list[str]:
        """The loopback addresses on which an instance answers: its ephemeral IP, then its floating ones."""
        given = [ip.ip for ip in instance.ephemeral_ips]
        given += [ip.ip for ip in self.floating_ips.within(instance.project_id) if ip.instance_id == instance.id]
        return [ip for ip in given if ":" not in ip]

    def behaviour_of(self, instance: Instance) -> dict[str, object]:
        """What an instance's machine is told at its next start."""
        return {**self.behaviour, **instance.behaviour}
