"""What the tests of the chroot share: disks with the tiny guest's tree, and looking for what was left behind."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.chroot.jail import Jail

_FIRST_SECTOR = 2048
_SIZE = 48 << 20
DEADLINE = 30.0


@dataclass(frozen=True)
class Volume:
    """A linked disk with one partition."""

    disk: str
    partition: str
    file: Path


def need_root() -> None:
    if os.geteuid() != 0:
        why = "mounts and loop devices need root's rights"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)


def host(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout.strip()


def make_disk(root: Path, file: Path, size: int = _SIZE) -> None:
    """A disk, by default of 48 MiB, with an MBR and one ext4 partition that holds `root`."""
    with file.open("wb") as disk:
        disk.truncate(size)
        sectors = size // 512 - _FIRST_SECTOR
        entry = struct.pack("<B3sB3sII", 0x80, b"\0\0\0", 0x83, b"\0\0\0", _FIRST_SECTOR, sectors)
        disk.seek(446)
        disk.write(entry)
        disk.seek(510)
        disk.write(b"\x55\xaa")
    offset = _FIRST_SECTOR * 512
    host("mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={offset}", "-d", str(root), str(file), f"{sectors // 2}k")


@contextmanager
def linked(file: Path) -> Iterator[str]:
    """A loop device over a file, as the cloud links a volume."""
    disk = host("losetup", "--find", "--show", str(file))
    try:
        yield disk
    finally:
        subprocess.run(["partx", "--delete", disk], capture_output=True, check=False)
        # What a test left in use is its own failure, and must not keep the device.
        until(lambda: subprocess.run(["losetup", "--detach", disk], capture_output=True, check=False).returncode == 0)
        until(lambda: str(file) not in host("losetup", "--all"))


def copy_sparse(source: Path, destination: Path) -> None:
    host("cp", "--sparse=always", str(source), str(destination))


def until(true: Callable[[], bool], deadline: float = DEADLINE) -> float:
    """Wait for something to be true, and return how long that took."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < deadline, f"not true after {deadline:g} s"
        time.sleep(0.005)
    return time.monotonic() - start


async def eventually(true: Callable[[], bool], deadline: float = DEADLINE) -> None:
    """The same, without holding up the event loop."""
    async with asyncio.timeout(deadline):
        while not true():
            await asyncio.sleep(0.005)


async def until_running(jail: Jail, *command_lines: str) -> None:
    """Wait for programs of a jail: a command that leaves one behind ends before that has even begun."""
    async with asyncio.timeout(DEADLINE):
        while not set(command_lines) <= {stray.command_line for stray in await jail.strays()}:
            await asyncio.sleep(0.005)


def processes_about(text: str) -> list[str]:
    """Command lines of processes of this host, but this one, that hold a text."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in line and int(process.name) != os.getpid():
                found.append(f"{process.name} {line}")
    return found


def parent_of(process: int) -> int:
    """The process that started another: a keeper, if that is a jail's first process."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def mounts_of(disk: str) -> list[str]:
    """Mounts of a disk or its partitions in whatever mount namespace."""
    found = set()
    for table in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):
            found |= {line for line in table.read_text().splitlines() if f" {disk}" in line}
    return sorted(found)


def is_free(disk: str) -> bool:
    try:
        os.close(os.open(disk, os.O_RDWR | os.O_EXCL))
    except OSError:
        return False
    return True


def is_mounted_at(path: Path) -> bool:
    return any(
        line.split(" ")[4].startswith(str(path)) for line in Path("/proc/self/mountinfo").read_text().splitlines()
    )
