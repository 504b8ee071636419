"""Volumes as block devices of this machine: `/dev/xvdb` with its partitions `/dev/xvdb1` and so on.

A loop device stands behind each. The disk has a node of its own, so that programs name it as they would on the VM. Its
partitions are links to the kernel's nodes: their numbers change when `partx` changes a partition, and only the kernel's
own nodes change with them at once. Where the kernel has no partition parser `partx` tells it the partitions.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import re
import stat
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from emulators.machines.disks import tools_path

_SYS = Path("/sys/block")
_LOOP_MAJOR = 7
_LOOP_CLR_FD, _LOOP_SET_STATUS64, _LOOP_GET_STATUS64 = 0x4C01, 0x4C04, 0x4C05
_INFO_SIZE, _FLAGS_AT, _AUTOCLEAR = 232, 52, 4


_HELD = Path("/run/lock")
"""Where regions of this machine tell each other which names they are about to use."""


class NameTaken(Exception):
    """Something else on this machine has that device name."""


@dataclass(frozen=True)
class _Partition:
    kernel_node: Path
    number: int

    def is_at(self, node: Path) -> bool:
        if node.is_symlink():
            return node.readlink() == self.kernel_node
        return node.lstat().st_rdev == self.number

    def put_at(self, node: Path) -> None:
        # A /dev that the kernel does not fill, as in a container, has no such node.
        if self.kernel_node.exists():
            node.symlink_to(self.kernel_node)
        else:
            _make_node(node, self.number)


@dataclass(frozen=True)
class Device:
    """A volume's file as a block device."""

    node: Path
    backing: Path
    loop: int

    @property
    def _kernel_name(self) -> str:
        return f"loop{self.loop}"

    @property
    def _loop_node(self) -> Path:
        return Path("/dev", self._kernel_name)

    def is_attached(self) -> bool:
        """Whether the kernel still has it."""
        return _backing(self.loop) == self.backing

    def follow_partitions(self) -> None:
        """Make the partitions' nodes those of the partitions that the kernel has now."""
        wanted = self._partitions()
        for node in _partition_nodes(self.node):
            partition = wanted.get(node)
            if partition is None or not partition.is_at(node):
                node.unlink(missing_ok=True)
        for node, partition in wanted.items():
            with contextlib.suppress(FileExistsError):
                partition.put_at(node)

    def _partitions(self) -> dict[Path, _Partition]:
        prefix = f"{self._kernel_name}p"
        found = {}
        with contextlib.suppress(OSError):
            for entry in (_SYS / self._kernel_name).iterdir():
                if entry.name.startswith(prefix):
                    major, _, minor = (entry / "dev").read_text().strip().partition(":")
                    node = Path(f"{self.node}{entry.name.removeprefix(prefix)}")
                    found[node] = _Partition(Path("/dev", entry.name), os.makedev(int(major), int(minor)))
        return found

    def try_detach(self) -> bool:
        """Detach it if nobody uses it, and remove its nodes. False while someone does."""
        if self.is_attached():
            try:
                descriptor = os.open(self._loop_node, os.O_RDWR | os.O_EXCL)
            except OSError:
                return False
            try:
                # While someone else has it open the kernel only notes that it is to go with the last of them.
                fcntl.ioctl(descriptor, _LOOP_CLR_FD, 0)
            finally:
                os.close(descriptor)
            if self.is_attached():
                return False
        self.remove_nodes()
        return True

    def cut(self) -> None:
        """Remove its nodes at once. The kernel lets go of the file when the last user has."""
        if self.is_attached():
            let_go(self.loop)
        self.remove_nodes()

    def remove_nodes(self) -> None:
        """Remove its nodes, and those of its partitions."""
        for node in [*_partition_nodes(self.node), self.node]:
            node.unlink(missing_ok=True)

    def keep(self) -> None:
        """Take back a former `cut`: it stays attached when its last user has gone."""
        descriptor = os.open(self._loop_node, os.O_RDWR)
        try:
            info = bytearray(fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_INFO_SIZE)))
            (flags,) = struct.unpack_from("I", info, _FLAGS_AT)
            struct.pack_into("I", info, _FLAGS_AT, flags & ~_AUTOCLEAR)
            fcntl.ioctl(descriptor, _LOOP_SET_STATUS64, bytes(info))
        finally:
            os.close(descriptor)

    def grow(self) -> None:
        """Tell the kernel that the file has grown."""
        subprocess.run(["losetup", "--set-capacity", self._loop_node], check=True, env=_environment())


def attach(backing: Path, node: Path) -> Device:
    """Make a file a block device of that name.

    Raises:
        NameTaken: there is something of that name.
        OSError: no loop device can be had.
    """
    if is_taken(node):
        raise NameTaken(node)
    done = subprocess.run(
        ["losetup", "--find", "--show", "--partscan", "--", backing],
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    )
    if done.returncode != 0:
        raise OSError(f"no loop device for {backing}: {done.stderr.strip()}")
    device = Device(node, backing, int(done.stdout.strip().removeprefix("/dev/loop")))
    try:
        _claim(device)
    except FileExistsError:
        let_go(device.loop)
        raise NameTaken(node) from None
    _find_partitions(device)
    return device


def hold(node: Path) -> int:
    """Keep a name from other regions of this machine until the device is there; it ends when the descriptor is closed.

    Raises:
        NameTaken: another region is about to use it, or something has it.
    """
    if is_taken(node):
        raise NameTaken(node)
    held = os.open(_HELD / f"image-bakery-region-{node.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise NameTaken(node) from None
    return held


def is_taken(node: Path) -> bool:
    """Whether something on this machine has that name."""
    return os.path.lexists(node) and not _is_left_over(node)


def adopt(backing: Path, node: Path) -> Device | None:
    """The block device that an earlier process made of a file, with its nodes as they should be; None if it is gone.

    Raises:
        NameTaken: something else now has its name.
    """
    loop = next((number for number, path in loops() if path == backing), None)
    if loop is None:
        if _is_left_over(node):
            Device(node, backing, -1).remove_nodes()
        return None
    device = Device(node, backing, loop)
    device.keep()
    if _loop_of(node) != loop:
        try:
            _claim(device)
        except FileExistsError:
            raise NameTaken(node) from None
    _find_partitions(device)
    return device


def loops() -> list[tuple[int, Path]]:
    """Every loop device in use, and its file. The kernel marks the name of a file that was removed."""
    found = []
    for entry in _SYS.glob("loop[0-9]*"):
        number = int(entry.name.removeprefix("loop"))
        if backing := _backing(number):
            found.append((number, backing))
    return found


def let_go(loop: int) -> None:
    """Detach a loop device that belongs to nobody any more, at the latest with its last user."""
    with contextlib.suppress(OSError):
        descriptor = os.open(f"/dev/loop{loop}", os.O_RDWR)
        try:
            fcntl.ioctl(descriptor, _LOOP_CLR_FD, 0)
        finally:
            os.close(descriptor)


def _backing(loop: int) -> Path | None:
    try:
        return Path((_SYS / f"loop{loop}" / "loop" / "backing_file").read_text().rstrip("\n"))
    except OSError:
        return None


def _loop_of(node: Path) -> int | None:
    try:
        status = node.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISBLK(status.st_mode) or os.major(status.st_rdev) != _LOOP_MAJOR:
        return None
    return os.minor(status.st_rdev)


def _is_left_over(node: Path) -> bool:
    # A node of a loop device that has no file is what a killed region leaves behind once its device is gone.
    loop = _loop_of(node)
    return loop is not None and _backing(loop) is None


def _claim(device: Device) -> None:
    if _is_left_over(device.node):
        device.remove_nodes()
    _make_node(device.node, os.makedev(_LOOP_MAJOR, device.loop))


def _find_partitions(device: Device) -> None:
    # It fails for a disk without a partition table, which is no error.
    subprocess.run(["partx", "--update", device.node], capture_output=True, check=False, env=_environment())
    device.follow_partitions()


def _partition_nodes(node: Path) -> list[Path]:
    pattern = re.compile(re.escape(node.name) + r"\d+")
    return [path for path in node.parent.glob(f"{node.name}[0-9]*") if pattern.fullmatch(path.name)]


def _make_node(node: Path, number: int) -> None:
    os.mknod(node, stat.S_IFBLK | 0o600, number)
    with contextlib.suppress(KeyError):
        os.chown(node, 0, grp.getgrnam("disk").gr_gid)
    node.chmod(0o660)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "PATH": tools_path()}
