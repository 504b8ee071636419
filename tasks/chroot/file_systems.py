"""The root's partition and file system: growing them to the volume, and telling the volume which blocks are free."""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable

from blocks.errors import CommunicatorError
from tasks.chroot.device import kernel_name, run_program, show_partitions, tool_environment, wait_for_partition
from tasks.chroot.jail import Jail

_PACKAGES = {"resize2fs": "e2fsprogs", "xfs_growfs": "xfsprogs", "btrfs": "btrfs-progs", "sfdisk": "fdisk"}
"""Programs, and the Debian packages that they are in."""
_EXT = frozenset({"ext2", "ext3", "ext4"})


async def grow_partition(device: str, number: int, timeout: float) -> bool:
    """Let a partition of an MBR or GPT reach up to whatever follows it, and tell the kernel.

    With number 0 there is nothing to do: the file system is on the disk itself.

    Args:
        device: The disk, by any of its names; nothing on it is mounted.
        number: The partition, from 1.
        timeout: Seconds that its node may take to be there.

    Returns:
        Whether it is larger than before.

    Raises:
        CommunicatorError: sfdisk(8) refused.
        WaitExpired: there is no such partition.
    """
    if number == 0:
        return False
    _need("sfdisk", device)
    disk = kernel_name(device)
    node = await wait_for_partition(device, number, timeout)
    before = await _sectors(disk, number)
    # The kernel is not asked whether it is in use by others, and is told below: not all kernels read tables.
    code, said = await run_program(["sfdisk", "--no-reread", "--no-tell-kernel", "-N", str(number), disk], b", +\n")
    if code != 0 and "No free sectors" not in said:
        raise CommunicatorError(
            "could not grow the partition",
            resource=node,
            why=said.strip() or f"sfdisk ended with exit code {code}",
            hint="Is it the right one (mount_partition)? grow_root: false leaves it as it is.",
        )
    await show_partitions(disk, timeout)
    return await _sectors(disk, number) > before


async def _sectors(disk: str, number: int) -> int:
    code, said = await run_program(["sfdisk", "--json", disk])
    if code != 0:
        raise CommunicatorError("could not read the partition table", resource=disk, why=said.strip())
    names = {f"{disk}{number}", f"{disk}p{number}"}
    partitions = json.loads(said[said.index("{") :])["partitiontable"]["partitions"]
    return next((int(entry["size"]) for entry in partitions if entry["node"] in names), 0)


async def grow_before_mount(node: str) -> str:
    """Let an ext2, ext3 or ext4 file system fill its partition or disk. Others grow when they are mounted.

    Mounted, these would grow as well, but the kernel asks for a capability more (CAP_SYS_RESOURCE) than mounting does.

    Returns:
        What was done; empty for file systems of other kinds.

    Raises:
        CommunicatorError: it is broken, or this host has no program for it.
    """
    code, kind = await run_program(["blkid", "--probe", "--output", "value", "--match-tag", "TYPE", node])
    if code != 0 or kind.strip() not in _EXT:
        return ""
    _need("resize2fs", node)
    # resize2fs wants a check first; one that mended something ends with 1 (e2fsck(8)).
    code, said = await run_program(["e2fsck", "-f", "-p", node])
    if code > 1:
        raise CommunicatorError("its file system is broken", resource=node, why=said.strip())
    return await _grown(kind.strip(), node, run_program(["resize2fs", node]))


async def grow_mounted(jail: Jail) -> str:
    """Let a mounted xfs or btrfs fill its partition or disk.

    Returns:
        What was done; empty for the kinds that `grow_before_mount` grows.

    Raises:
        CommunicatorError: it is of a kind that cannot be grown, this host has no program for it, or that refused.
    """
    kind, path = await _kind(jail), str(jail.mount_path)
    if kind in _EXT:
        return ""
    argv = {"xfs": ["xfs_growfs", path], "btrfs": ["btrfs", "filesystem", "resize", "max", path]}.get(kind)
    if argv is None:
        raise CommunicatorError(
            f"a file system of type {kind} cannot be grown here",
            resource=str(jail),
            hint="grow_root knows ext4, xfs and btrfs. Set it to false, and grow the file system in a provisioner.",
        )
    _need(argv[0], str(jail))
    return await _grown(kind, str(jail), _beside(jail, argv))


async def _grown(kind: str, resource: str, program: Awaitable[tuple[int, str]]) -> str:
    code, said = await program
    if code != 0:
        raise CommunicatorError(f"could not grow the {kind} file system", resource=resource, why=said.strip())
    return f"The {kind} file system fills its partition"


def _need(program: str, resource: str) -> None:
    if shutil.which(program) is None:
        hint = f"Install it (Debian: {_PACKAGES[program]}), or set grow_root to false."
        raise CommunicatorError(f"this host has no {program}", resource=resource, hint=hint)


async def trim_file_system(jail: Jail) -> str:
    """Tell the volume which blocks of the mounted root are free, so that its snapshot does not hold them.

    Where volume or file system know nothing of that, it does nothing. Returns what came of it.
    """
    await _kind(jail)  # where nothing is mounted, it would be the host's own
    code, said = await _beside(jail, ["fstrim", "--verbose", str(jail.mount_path)])
    return said if code == 0 else f"Not trimmed: {said or f'fstrim ended with exit code {code}'}"


async def _kind(jail: Jail) -> str:
    """The type of the root's file system."""
    options = ["--noheadings", "--output", "FSTYPE", "--mountpoint", str(jail.mount_path)]
    code, said = await _beside(jail, ["findmnt", *options])
    if code != 0:
        raise CommunicatorError("nothing is mounted", resource=str(jail), why=said)
    return said.splitlines()[-1]


async def _beside(jail: Jail, argv: list[str]) -> tuple[int, str]:
    said = bytearray()
    code = await jail.run_beside(argv, said.extend, tool_environment(), "/")
    return code, said.decode(errors="replace").strip()
