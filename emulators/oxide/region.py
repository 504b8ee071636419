"""The region's state: what exists, where it is stored, and how it is looked up."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from emulators.machines import Machines
from emulators.oxide import errors, wire
from emulators.oxide.bodies import check_name, is_uuid
from emulators.oxide.records import (
    AntiAffinityGroup,
    Disk,
    FloatingIp,
    Identified,
    Image,
    Instance,
    NetworkInterface,
    Project,
    Snapshot,
    SshKey,
    Vpc,
    VpcSubnet,
    new_id,
    now,
)
from emulators.region import faults
from emulators.region.addresses import AddressPool, random_network
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
"""Faults that only this region knows; `instances` and `disks` say what they do."""


class Identity(BaseModel):
    """What a region is from its first start on."""

    silo_id: str = Field(default_factory=new_id)
    user_id: str = Field(default_factory=new_id)
    pool_id: str = Field(default_factory=new_id)
    network: str
    time_created: datetime = Field(default_factory=now)

    @classmethod
    def of(cls, directory: Path, network: IPv4Network | None = None) -> Identity:
        """What is recorded in a state directory, or something new that is recorded now."""
        path = directory / "identity.json"
        if path.exists():
            identity = cls.model_validate_json(path.read_bytes())
            if network is None or str(network) == identity.network:
                return identity
            identity.network = str(network)
        else:
            identity = cls(network=str(network or random_network()))
        write_private(path, identity.model_dump_json())
        return identity


@dataclass(frozen=True)
class Times:
    """How long the control plane takes, in seconds."""

    create: float = 0.0
    start: float = 0.0
    stop: float = 0.0
    restart: float = 10.0
    """From an instance's failure to its automatic restart."""
    restart_cooldown: float = 300.0
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


R = TypeVar("R", bound=Identified)


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
        self.token = self._load_token()
        self.ssh_port = ssh_port
        self.addresses = AddressPool(IPv4Network(identity.network), ssh_port)
        self.requests = RequestLog()
        self.faults = faults.Faults(FAULT_KINDS)

        records = directory / "records"
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
        self.private_ips = {(nic.subnet_id, nic.ip) for nic in self.interfaces}
        self.addresses.reserve(i.ephemeral_ip for i in self.instances if i.ephemeral_ip)
        self.addresses.reserve(ip.ip for ip in self.floating_ips)

    @property
    def token_file(self) -> Path:
        """The file that holds the one API token."""
        return self.directory / "token"

    def _load_token(self) -> str:
        if not self.token_file.exists():
            write_private(self.token_file, f"oxide-token-{secrets.token_hex(20)}\n")
        return self.token_file.read_text().strip()

    def path(self, record: Disk | Snapshot | Image) -> Path:
        """The disk file of a disk, snapshot or image."""
        room = {Disk: "disks", Snapshot: "snapshots", Image: "images"}[type(record)]
        return self.directory / room / f"{record.id}.raw"

    def project(self, name_or_id: str | None) -> Project:
        """The project of a request that must name one."""
        if name_or_id is None:
            raise errors.bad_request("unable to parse query string: missing field `project`")
        return self.find(self.projects, "project", name_or_id)

    def find(self, collection: Collection[R], kind: str, name_or_id: str, scope: str = "") -> R:
        """What has that id, or that name in that scope."""
        by_id = is_uuid(name_or_id)
        found = collection.get(name_or_id.lower()) if by_id else collection.named(scope, name_or_id)
        if found is None:
            if not by_id:
                try:
                    check_name(name_or_id)
                except ValueError as error:
                    raise errors.bad_request(f"bad parameter in URL path: {error}") from None
            raise errors.not_found(kind, name_or_id, by_id=by_id)
        return found

    def select(self, collection: Collection[R], kind: str, name_or_id: str, project: str | None) -> R:
        """What a path names: by id without `?project=`, by name with it.

        Raises:
            ApiError: 400 for an id together with a project and for a name without one, 404 for none.
        """
        if is_uuid(name_or_id):
            if project is not None:
                raise errors.invalid_request(f"when providing {kind} as an ID project should not be specified")
            return self.find(collection, kind, name_or_id)
        if project is None:
            raise errors.invalid_request(f"{kind} should either be UUID or project should be specified")
        return self.find(collection, kind, name_or_id, self.project(project).id)

    def inventory(self) -> dict[str, Any]:
        """Everything that exists, for the control endpoint."""
        projects = {project.id: project.name for project in self.projects}

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
            "projects": [entry(record) for record in self.projects],
            "instances": [
                entry(i, i.state, address=self.ssh_address(i), boot_disk_id=i.boot_disk_id, disk_ids=i.disk_ids)
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
        return {"region": "oxide", "machines": self.machines.name, "resources": resources}

    def ssh_address(self, instance: Instance) -> str | None:
        """The loopback address on which an instance answers: its ephemeral IP, else its first floating one."""
        if instance.ephemeral_ip:
            return instance.ephemeral_ip
        return next((ip.ip for ip in self.floating_ips if ip.instance_id == instance.id), None)

    def pool_view(self) -> wire.Json:
        """The one IP pool, as `SiloIpPool`."""
        return {
            "id": self.identity.pool_id,
            "name": "default",
            "description": "Loopback addresses of this host",
            "ip_version": "v4",
            "pool_type": "unicast",
            "is_default": True,
            "time_created": self.identity.time_created.isoformat(),
            "time_modified": self.identity.time_created.isoformat(),
        }
