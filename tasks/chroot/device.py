"""Block devices of this host: their nodes, their partitions, and whether anything still uses them."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from blocks.errors import CommunicatorError, WaitExpired
from tasks.ssh.threads import in_thread

_PAUSE = 0.01
_LONGEST_PAUSE = 0.25
_BY_ID = "/dev/disk/by-id/"
_BY = {
    "UUID": "by-uuid",
    "LABEL": "by-label",
    "PART_ENTRY_UUID": "by-partuuid",
    "PART_ENTRY_NAME": "by-partlabel",
}


def names_of(device: str) -> list[str]:
    """Where a volume linked as `device` (`/dev/xvdf`) may show up: under that name, or by the id of QEMU's disk."""
    names = [device]
    if match := re.fullmatch(r"/dev/(?:xv|s|v)d([a-z]+)", device):
        names.append(f"{_BY_ID}scsi-0QEMU_QEMU_HARDDISK_sd{match[1]}")
    return names


def partition(device: str, number: int) -> str:
    """A partition's name: `/dev/xvdf1`, `/dev/nvme1n1p1`, `/dev/disk/by-id/…-part1`. Number 0 is the device itself."""
    if number == 0:
        return device
    if device.startswith("/dev/disk/by-"):
        return f"{device}-part{number}"
    return f"{device}{'p' if device[-1].isdigit() else ''}{number}"


def node_of(device: str) -> str | None:
    """The name (of `names_of`) under which a linked volume is there with a size, if it is."""
    return next(filter(_is_disk, names_of(device)), None)


async def wait_for_partition(device: str, number: int, timeout: float) -> str:
    """Make a partition's node appear, and return its name by the kernel, such as `/dev/xvdf1`.

    The kernel is told by partx(8), since some kernels do not read partition tables themselves. With number 0 it is the
    device's own.

    Args:
        device: The disk, by any of its names.
        number: The partition, counted from 1; 0 for a disk without partitions.
        timeout: Seconds.

    Raises:
        WaitExpired: there is no such partition, with what partx said.
    """
    disk = kernel_name(device)
    name = partition(disk, number)
    clock = asyncio.get_running_loop().time
    end, pause, said = clock() + timeout, _PAUSE, ""
    while not _is_disk(name):
        if clock() + pause > end:
            raise WaitExpired(
                f"no partition {number} after {timeout:g} s",
                resource=device,
                why=said or f"{name} did not appear",
                hint="mount_partition 0 mounts the disk itself; `partx --show` lists its partitions.",
            )
        if number:
            said = await _partx("--update", disk)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return name


async def show_partitions(device: str, timeout: float) -> list[str]:
    """Have the kernel know the partitions that are on a disk by now, and return their nodes, all of them there.

    What wrote the table may have told the kernel itself, or not; partx(8) reads it without the kernel's help. A disk
    without a table has none.

    Args:
        device: The disk, by any of its names.
        timeout: Seconds.

    Raises:
        WaitExpired: a node does not appear.
    """
    disk = kernel_name(device)
    numbers = await _numbers(disk)
    if numbers:
        await _partx("--update", disk)
    return [await wait_for_partition(disk, number, timeout) for number in numbers]


async def links_of(device: str) -> dict[str, str]:
    """The names by which udev would know a disk and its partitions, each with the node that it leads to.

    Boot loaders name file systems by them: where they find no `/dev/disk/by-uuid`, they write down the kernel's name,
    which is another one wherever the image boots. blkid(8) reads them from the disk itself: udev may not run here.
    """
    disk = kernel_name(device)
    found = {device: disk}
    for node in [disk, *(partition(disk, number) for number in await _numbers(disk))]:
        code, said = await run_program(["blkid", "--probe", "--output", "export", node])
        if code != 0:
            continue
        told = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        for key, directory in _BY.items():
            # A label may hold what no file's name can; udev writes that in another way, and nothing here needs it.
            if (name := told.get(key)) and re.fullmatch(r"[\w.:+-]+", name):
                found[f"/dev/disk/{directory}/{name}"] = node
    return found


async def forget_partitions(device: str) -> None:
    """Have the kernel forget a disk's partitions, before the disk goes. Whatever partx(8) says about it is no error."""
    with suppress(CommunicatorError):
        await _partx("--delete", kernel_name(device))


async def wait_until_free(device: str, timeout: float) -> None:
    """Wait until nothing uses a disk or a partition of it: no mount in any namespace, no swap, no device mapper.

    A device is still in use for some 35 ms after its last process has gone. Opened exclusively, and for reading only:
    that asks the same question, and udev would look into a disk that was open for writing.

    Args:
        device: The disk, by any of its names. One that is gone is free.
        timeout: Seconds.

    Raises:
        WaitExpired: it is in use. It says where it is mounted.
    """
    clock = asyncio.get_running_loop().time
    end, pause = clock() + timeout, _PAUSE
    while await in_thread(lambda: _is_used(device), lambda: None):
        if clock() + pause > end:
            users = await in_thread(lambda: _mounts_of(device), lambda: None)
            raise WaitExpired(
                f"still in use after {timeout:g} s",
                resource=device,
                why="; ".join(users) or "no mount of it is to be seen: swap, device mapper or a loop device, perhaps",
                hint="It is not unlinked while it is in use. End what uses it.",
            )
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def kernel_name(device: str) -> str:
    """The name to which a device's name leads."""
    return os.path.realpath(device)


def _is_disk(name: str) -> bool:
    try:
        found = Path(name).stat()
        if not stat.S_ISBLK(found.st_mode):
            return False
        size = Path(f"/sys/dev/block/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}/size").read_text()
    except OSError:
        return False
    return int(size) > 0


def _is_used(device: str) -> bool:
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        if error.errno not in (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM):
            raise CommunicatorError("could not open it", resource=device, why=error.strerror or str(error)) from error
    return False


def _mounts_of(device: str) -> list[str]:
    disk = Path(device).resolve().name
    numbers = set()
    for entry in [Path("/sys/class/block") / disk, *Path("/sys/class/block").glob(f"{disk}/*/partition")]:
        with suppress(OSError):
            numbers.add(((entry.parent if entry.name == "partition" else entry) / "dev").read_text().strip())
    found: dict[tuple[int, str], str] = {}
    for table in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):
            lines = table.read_text(errors="replace").splitlines()
            space = (table.parent / "ns/mnt").stat().st_ino
            command = (table.parent / "comm").read_text().strip()
            for line in lines:
                fields = line.split(" ")
                if fields[2] in numbers:
                    found.setdefault(
                        (space, fields[4]), f"mounted on {fields[4]}, seen by {command} ({table.parent.name})"
                    )
    return list(found.values())


async def _numbers(disk: str) -> list[int]:
    """The partitions in a disk's table, whether the kernel knows them or not."""
    code, said = await run_program(["partx", "--raw", "--noheadings", "--output", "NR", disk])
    return [int(word) for word in said.split()] if code == 0 else []


async def _partx(*arguments: str) -> str:
    """Run partx(8) and return what it said."""
    return (await run_program(["partx", *arguments]))[1].strip()


def tool_environment() -> dict[str, str]:
    """What the tools of this host that look at disks need of the builder's environment: none of its secrets."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}


async def run_program(argv: Sequence[str], given: bytes = b"") -> tuple[int, str]:
    """Run a program of this host, and return its exit code and what it said. It ends when this is cancelled."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        env=tool_environment(),
    )
    try:
        said, _ = await process.communicate(given)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode or 0, said.decode(errors="replace")
