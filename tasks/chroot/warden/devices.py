"""The jail's own `/dev`: the nodes that every system has, the build's disk, and none of the host's other devices."""

# System calls as they are: pathlib would only stand between.
# ruff: noqa: PTH102, PTH103, PTH116, PTH120, PTH211

from __future__ import annotations

import os
import stat
from pathlib import Path

from tasks.chroot.warden import kernel
from tasks.chroot.warden.inside import Home, change_root

_NODES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_TTY_GROUP = 5


def fill_dev(home: Home, dev: str, disk: str | None, links: dict[str, str]) -> None:
    """Mount and fill a `/dev`.

    Args:
        home: The jail.
        dev: Where.
        disk: A block device of the host that is there with all of its partitions, by the kernel's names, which is what
            grub-probe looks for.
        links: Paths under `/dev`, such as `/dev/disk/by-uuid/…`, and for each a node of the host, of the disk or of a
            partition of it: they are links inside.
    """
    blocks = _with_partitions(disk) if disk else {}
    names = {number: name for name, number in blocks.items()}
    targets = {path: names.get(os.stat(node).st_rdev) for path, node in links.items()}
    change_root(home)
    os.umask(0)
    kernel.mount("tmpfs", dev, "tmpfs", kernel.MS_NOSUID, "mode=0755,size=4m")
    for name, minor in _NODES.items():
        os.mknod(f"{dev}/{name}", stat.S_IFCHR | 0o666, os.makedev(1, minor))
    os.mknod(f"{dev}/tty", stat.S_IFCHR | 0o666, os.makedev(5, 0))
    for name, target in _LINKS.items():
        os.symlink(target, f"{dev}/{name}")
    for directory, filesystem, flags, data in (
        ("pts", "devpts", kernel.MS_NOEXEC, f"newinstance,ptmxmode=0666,mode=620,gid={_TTY_GROUP}"),
        ("shm", "tmpfs", kernel.MS_NODEV, "mode=1777"),
    ):
        os.mkdir(f"{dev}/{directory}", 0o755)
        kernel.mount(filesystem, f"{dev}/{directory}", filesystem, kernel.MS_NOSUID | flags, data)
    for name, number in blocks.items():
        os.mknod(f"{dev}/{name}", stat.S_IFBLK | 0o660, number)
    for path, block in targets.items():
        link = f"{dev}/{os.path.relpath(path, '/dev')}"
        if block is not None and not os.path.lexists(link):
            os.makedirs(os.path.dirname(link), mode=0o755, exist_ok=True)
            os.symlink(f"/dev/{block}", link)


def _with_partitions(disk: str) -> dict[str, int]:
    """Names and numbers of a disk and its partitions, from sysfs(5)."""
    number = os.stat(disk).st_rdev
    known = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve(strict=True)
    entries = [known, *sorted(path.parent for path in known.glob("*/partition"))]
    found = {}
    for entry in entries:
        major, minor = (entry / "dev").read_text().split(":")
        found[entry.name.replace("!", "/")] = os.makedev(int(major), int(minor))
    return found
