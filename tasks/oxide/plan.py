"""What a build is going to make, once the region was asked whether it can."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from blocks.oxide.models import DESCRIPTION_LENGTH, GIB, Image, SshKey
from blocks.oxide.requests import (
    AutoPool,
    EphemeralIp,
    ExplicitPool,
    FloatingIpOfInstance,
    ImageCreate,
    InstanceCreate,
    IpVersion,
    NewDisk,
    SnapshotSource,
)
from tasks.mark import provenance


@dataclass(frozen=True)
class ImagePlan:
    """The image that is to be made."""

    name: str
    description: str
    """Without the provenance that it is going to end in."""
    os: str
    version: str
    project: str | None
    """Whose it is to be; None: the silo's."""

    @property
    def place(self) -> str:
        """Where its name has to be free."""
        return f"project {self.project}" if self.project else "the silo"

    def request(self, run: UUID, snapshot_id: str) -> ImageCreate:
        """The finished image. It carries no mark, and its description ends in where it came from."""
        origin = provenance(run)
        text = f"{self.description[: DESCRIPTION_LENGTH - len(origin) - 1]} {origin}".strip()
        return self.request_as(self.name, text, snapshot_id)

    def request_as(self, name: str, description: str, snapshot_id: str) -> ImageCreate:
        """The same image with another name and description."""
        source = SnapshotSource(id=snapshot_id)
        return ImageCreate(name=name, description=description, os=self.os, version=self.version, source=source)


@dataclass(frozen=True)
class Plan:
    """A build that the region has nothing against."""

    source: Image
    image: ImagePlan
    instance: InstanceCreate
    """The instance but for the temporary key; its address is of the first of `pools`."""
    pools: Sequence[str | None]
    """The pools of the ephemeral address, in the order in which they are asked; None: the silo's default."""
    key_name: str
    """What the temporary key is called on the rack."""
    makes_image: bool = True
    finished: Image | None = None
    """This run's own image, when an earlier attempt has made it."""
    former: Image | None = None
    """The image that is to be replaced."""

    @property
    def source_facts(self) -> dict[str, str]:
        """The source image, for the build page."""
        source = self.source
        return {"name": source.name, "id": source.id, "version": f"{source.os} {source.version}"}

    def made_facts(self, image: Image) -> dict[str, str]:
        """The image that was made, for the build page."""
        return {
            "name": image.name,
            "id": image.id,
            "place": self.image.place,
            "size": _gib(image.size),
            "version": f"{image.os} {image.version}",
        }

    def requests(self) -> list[InstanceCreate]:
        """The instance, once for each pool that its address may come from."""
        match self.instance.external_ips:
            case [EphemeralIp()] if len(self.pools) > 1:
                return [
                    self.instance.model_copy(update={"external_ips": [ephemeral(pool, "v4")]}) for pool in self.pools
                ]
        return [self.instance]

    def launched_with(self, key: SshKey | None, user_data: bytes) -> Plan:
        """The same with what the build adds by itself.

        Args:
            key: Its temporary key, which comes before all others.
            user_data: Its own user data, where the definition gives none.
        """
        keys = [*([key.id] if key else []), *self.instance.ssh_public_keys]
        update = {"ssh_public_keys": keys, "user_data": self.instance.user_data or encoded(user_data)}
        return replace(self, instance=self.instance.model_copy(update=update))

    def report(self) -> str:
        """What would be made, for people."""
        request = self.instance
        lines = [
            ("Source", f"{self.source.name} ({self.source.id}), {self.source.os} {self.source.version}"),
            ("Instance", f"{request.name}: {request.ncpus} CPUs, {_gib(request.memory)} of memory"),
            ("Boot disk", f"{request.boot_disk.name}: {_gib(request.boot_disk.size)}"),
            *(("Extra disk", _disk(disk)) for disk in request.disks),
            *(
                ("Network", f"VPC {nic.vpc_name}, subnet {nic.subnet_name}, {nic.ip_config.type}")
                for nic in request.network_interfaces.params
            ),
            ("Address", self._address()),
            ("SSH keys", ", ".join(["the build's temporary one", *request.ssh_public_keys])),
        ]
        if request.anti_affinity_groups:
            lines.append(("Away from", ", ".join(request.anti_affinity_groups)))
        if request.user_data:
            lines.append(("User data", f"{len(request.user_data) * 3 // 4 // 1024 + 1} KiB"))
        lines.append(("Image", self._image()))
        return "\n".join(f"{name + ':':<11} {value}" for name, value in lines)

    def _address(self) -> str:
        match self.instance.external_ips:
            case [EphemeralIp()]:
                pools = [pool or "the silo's default pool" for pool in self.pools]
                return f"ephemeral, of {', else '.join(pools)}"
            case [FloatingIpOfInstance(floating_ip=name)]:
                return f"floating IP {name}"
        return "the private one"

    def _image(self) -> str:
        if not self.makes_image:
            return "none (skip_create_image)"
        text = f"{self.image.name} in {self.image.place}, {self.image.os} {self.image.version}"
        if self.finished is not None:
            return f"{text}; this run has made it already ({self.finished.id})"
        if self.former is not None:
            return f"{text}, in place of {self.former.id} of {self.former.time_created:%Y-%m-%d}"
        return text


def is_of_run(image: Image, run: UUID) -> bool:
    """Whether an image is what a run has finished."""
    return image.description.endswith(provenance(run))


def encoded(user_data: bytes) -> str:
    """User data as the API takes it: Base64 (RFC 4648, section 4)."""
    return base64.b64encode(user_data).decode("ascii")


def ephemeral(pool: str | None, version: IpVersion) -> EphemeralIp:
    """An address for as long as the instance lives, of a pool or (None) of the silo's default one."""
    return EphemeralIp(pool_selector=ExplicitPool(pool=pool) if pool else AutoPool(ip_version=version))


def _disk(disk: NewDisk) -> str:
    return f"{disk.name}: {_gib(disk.size)}, {disk.disk_backend.disk_source.type}"


def _gib(size: int) -> str:
    return f"{size / GIB:g} GiB"
