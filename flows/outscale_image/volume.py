"""Options of the temporary volume and of the chroot on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from blocks.errors import Mistake
from blocks.settings import settings
from flows.definition import at
from flows.outscale_image.omi import MOST_GIB, tag_mistakes
from flows.outscale_image.texts import OmiText
from tasks.chroot.copied_files import DEFAULT_FILES
from tasks.chroot.mounts import DEFAULT_MOUNTS, Mount
from tasks.chroot.steps import rendered
from tasks.outscale.devices import MOST_DEVICES
from tasks.quantities import Seconds

_WAIT = "How long this may take: 5m, or seconds. Default: the setting {} of the host."


class VolumeOptions(BaseModel):
    """The seed builder's options of volume, device and chroot, and some of our own."""

    root_volume_size: int | None = Field(
        default=None,
        ge=1,
        le=MOST_GIB,
        title="Volume size",
        description="GiB; at least the source OMI's, which is the default.",
        json_schema_extra=at(30),
    )
    root_volume_type: Literal["standard", "gp2", "io1"] | None = Field(
        default=None,
        title="Volume type",
        description="Default: the source OMI's; from scratch gp2. io1 only where the source OMI's is.",
        json_schema_extra=at(31),
    )
    root_volume_tags: dict[OmiText, OmiText] = Field(
        default_factory=dict, title="Volume tags", description="Of the temporary volume.", json_schema_extra=at(32)
    )
    grow_root: bool = Field(
        default=False,
        title="Grow the root",
        description="Let the root partition and its file system (ext4, xfs, btrfs) fill the volume.",
        json_schema_extra=at(33),
    )
    trim: bool = Field(
        default=True,
        title="Trim",
        description="Tell the volume which blocks are free before the snapshot (fstrim), so that it holds less.",
        json_schema_extra=at(34),
    )
    device_path: str | None = Field(
        default=None,
        pattern=r"^/dev/(sd|xvd|vd)[b-z][a-z]?$",
        title="Device",
        description="Name under which the volume is linked, such as /dev/xvdf. Default: one that is free.",
        json_schema_extra=at(35),
    )
    nvme_device_path: str | None = Field(
        default=None,
        pattern=r"^/dev/.+",
        title="Device on this host",
        description="Where the linked volume shows up, if not under the name of its link: /dev/nvme1n1, for one.",
        json_schema_extra=at(36),
    )
    max_parallel_devices: int = Field(
        default=MOST_DEVICES,
        ge=1,
        le=MOST_DEVICES,
        title="Volumes at once",
        description="A build waits while so many builds have a volume on this VM.",
        json_schema_extra=at(37),
    )
    keep_linked: bool = Field(
        default=False,
        title="Keep it linked",
        description="With on_error keep: leave the volume linked to this VM, for a look at it, and not only there.",
        json_schema_extra=at(811),
    )
    mount_partition: int = Field(
        default=1,
        ge=0,
        title="Partition",
        description="The root partition; 0: the whole disk.",
        json_schema_extra=at(38),
    )
    mount_options: list[str] = Field(
        default_factory=list, title="Mount options", description="Each as with mount -o.", json_schema_extra=at(39)
    )
    mount_path: str = Field(
        default="/mnt/image-bakery/{{.Device}}",
        pattern=r"^/.+",
        title="Mount path",
        description="Where the root is mounted, in the jail only; {{.Device}} is the device's base name.",
        json_schema_extra=at(40),
    )
    chroot_mounts: list[tuple[str, str, str]] = Field(
        default=[(mount.kind, mount.source, mount.inner) for mount in DEFAULT_MOUNTS],
        title="Chroot mounts",
        description="Type, source and path inside of each further mount; an empty list is none.",
        json_schema_extra=at(41),
    )
    copy_files: list[str] | None = Field(
        default=None,
        title="Copy files",
        description="Files of the host that stand in for the image's own while it is provisioned. "
        "Default: /etc/resolv.conf; from scratch none.",
        json_schema_extra=at(42),
    )
    command_wrapper: str = Field(
        default="{{.Command}}",
        title="Command wrapper",
        description="Host shell around commands: {{.Command}} is the command.",
        json_schema_extra=at(43),
    )
    pre_mount_commands: list[str] = Field(
        default_factory=list,
        title="Pre-mount commands",
        description="Host shell, after linking: {{.Device}} is the device, {{.Device}}1 its first partition.",
        json_schema_extra=at(44),
    )
    post_mount_commands: list[str] = Field(
        default_factory=list,
        title="Post-mount commands",
        description="Host shell, after mounting: {{.Device}}, {{.MountPath}}.",
        json_schema_extra=at(45),
    )
    volume_wait_timeout: Seconds | None = Field(
        default=None,
        gt=0,
        title="Time for the volume",
        description=_WAIT.format("start_timeout"),
        json_schema_extra=at(60),
    )
    link_wait_timeout: Seconds | None = Field(
        default=None,
        gt=0,
        title="Time for its link",
        description=_WAIT.format("start_timeout"),
        json_schema_extra=at(61),
    )
    unlink_wait_timeout: Seconds | None = Field(
        default=None,
        gt=0,
        title="Time for the link's end",
        description=_WAIT.format("stop_timeout"),
        json_schema_extra=at(62),
    )
    snapshot_wait_timeout: Seconds | None = Field(
        default=None,
        gt=0,
        title="Time for the snapshot",
        description=_WAIT.format("snapshot_timeout"),
        json_schema_extra=at(63),
    )
    omi_wait_timeout: Seconds | None = Field(
        default=None,
        gt=0,
        title="Time for the OMI",
        description=_WAIT.format("snapshot_timeout"),
        json_schema_extra=at(64),
    )

    @property
    def link_name(self) -> str | None:
        """The name that the API takes: it knows no `/dev/vdX`, and means the same disk by `/dev/xvdX`."""
        return re.sub(r"^/dev/vd", "/dev/xvd", self.device_path) if self.device_path else None

    @property
    def volume_wait(self) -> float:
        """Seconds for the volume to be available."""
        return self.volume_wait_timeout or settings().start_timeout

    @property
    def link_wait(self) -> float:
        """Seconds for the device to be there."""
        return self.link_wait_timeout or settings().start_timeout

    @property
    def unlink_wait(self) -> float:
        """Seconds for the link to end."""
        return self.unlink_wait_timeout or settings().stop_timeout

    @property
    def snapshot_wait(self) -> float:
        """Seconds for the snapshot to be completed."""
        return self.snapshot_wait_timeout or settings().snapshot_timeout

    @property
    def omi_wait(self) -> float:
        """Seconds for an OMI, or a copy of one, to be available."""
        return self.omi_wait_timeout or settings().snapshot_timeout

    def files_to_copy(self, *, from_scratch: bool) -> list[str]:
        """`copy_files`, or its default."""
        if self.copy_files is not None:
            return self.copy_files
        return [] if from_scratch else list(DEFAULT_FILES)

    def mistakes_of_volume(self, *, from_scratch: bool) -> Iterator[Mistake]:
        """Options that cannot work, on this host or at all."""
        if "{{.Command}}" not in self.command_wrapper:
            yield Mistake("command_wrapper", "must contain {{.Command}}, or nothing would run", self.command_wrapper)
        if from_scratch and self.root_volume_type == "io1":
            yield Mistake("root_volume_type", "must be standard or gp2 with from_scratch", "io1")
        for place, path in enumerate(self.files_to_copy(from_scratch=from_scratch)):
            if not Path(path).is_absolute() or not Path(path).is_file():
                yield Mistake(f"copy_files[{place}]", "must be a file of this host, by its full path", path)
        for place, (_, _, inner) in enumerate(self.chroot_mounts):
            if not inner.startswith("/"):
                yield Mistake(f"chroot_mounts[{place}][2]", "must be a path inside, from /", inner)
        yield from tag_mistakes("root_volume_tags", self.root_volume_tags)

    def warnings_of_volume(self) -> Iterator[str]:
        """Options that mean something else than they say."""
        if self.device_path and self.device_path != self.link_name:
            yield f"device_path {self.device_path} is linked as {self.link_name}: the API knows it by that name"

    def mount_point(self, device: str) -> Path:
        """Where the root is mounted, in the jail."""
        return Path(rendered(self.mount_path, device=Path(device).name))

    def mounts(self) -> list[Mount]:
        """The further mounts."""
        return [Mount(*mount) for mount in self.chroot_mounts]
