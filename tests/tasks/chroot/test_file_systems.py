"""Growing partitions and file systems to their volume, and trimming, on real loop devices."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.errors import CommunicatorError
from tasks.chroot.device import show_partitions, wait_for_partition
from tasks.chroot.file_systems import grow_before_mount, grow_mounted, grow_partition, trim_file_system
from tasks.chroot.jail import Jail
from tests.tasks.chroot.cellar import host, linked, parent_of

MIB = 1 << 20
MAKE = {"ext4": ("mkfs.ext4", "-q"), "xfs": ("mkfs.xfs", "-q"), "btrfs": ("mkfs.btrfs", "-q")}


def need(program: str) -> None:
    if shutil.which(program) is None:
        why = f"{program} is not installed"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)


@pytest.fixture
def blank(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A linked disk of 400 MiB, that grows to 800."""
    file = tmp_path / "volume.raw"
    os.truncate(os.open(file, os.O_CREAT | os.O_RDWR), 400 * MIB)
    with linked(file) as disk:
        yield disk, file


def partitioned(disk: str, label: str, size: str = "") -> None:
    table = f"label: {label}\nsize=16MiB\nsize={size or '+'}\n"
    subprocess.run(["sfdisk", "--quiet", disk], input=table, text=True, check=False, capture_output=True)


def size_of(jail: Jail) -> int:
    """Bytes of the mounted file system. The host does not see the mount: its namespace has to be entered."""
    keeper = parent_of(jail.first_process)
    stat = ["stat", "-f", "-c", "%b %S", str(jail.mount_path)]
    blocks, size = host("nsenter", f"--mount=/proc/{keeper}/ns/mnt", *stat).split()
    return int(blocks) * int(size)


@pytest.mark.parametrize("label", ["dos", "gpt"])
@pytest.mark.parametrize("kind", MAKE)
async def test_partition_and_file_system_fill_the_volume(
    kind: str, label: str, blank: tuple[str, Path], tmp_path: Path
) -> None:
    need(MAKE[kind][0])
    disk, file = blank
    partitioned(disk, label)
    _, node = await show_partitions(disk, 10)
    host(*MAKE[kind], node)
    os.truncate(file, 800 * MIB)
    host("losetup", "--set-capacity", disk)

    assert await grow_partition(disk, 2, 10)
    assert not await grow_partition(disk, 2, 10), "a second time there is nothing to do"
    node = await wait_for_partition(disk, 2, 10)
    done = await grow_before_mount(node)
    async with Jail(tmp_path / "mounted") as jail:
        await jail.mount_device(node)
        done += await grow_mounted(jail)
        assert done == f"The {kind} file system fills its partition"
        assert size_of(jail) > 600 * MIB
        await jail.unmount(10)


async def test_a_file_system_on_the_disk_itself_grows_without_a_partition(
    blank: tuple[str, Path], tmp_path: Path
) -> None:
    disk, file = blank
    host("mkfs.ext4", "-q", disk)
    os.truncate(file, 800 * MIB)
    host("losetup", "--set-capacity", disk)
    assert not await grow_partition(disk, 0, 10)
    await grow_before_mount(disk)
    async with Jail(tmp_path / "mounted") as jail:
        await jail.mount_device(disk)
        assert size_of(jail) > 600 * MIB
        await jail.unmount(10)


async def test_a_partition_that_another_follows_stays_as_it_is(blank: tuple[str, Path]) -> None:
    disk, _ = blank
    partitioned(disk, "dos", "100MiB")
    assert not await grow_partition(disk, 1, 10)


async def test_without_a_mount_nothing_is_grown_or_trimmed(tmp_path: Path) -> None:
    async with Jail(tmp_path / "mounted") as jail:
        for work in (grow_mounted, trim_file_system):
            with pytest.raises(CommunicatorError, match="nothing is mounted"):
                await work(jail)


async def test_a_file_system_that_nothing_grows_is_an_error(tmp_path: Path) -> None:
    async with Jail(tmp_path / "mounted") as jail:
        await jail.line.call("mount_root", device="none", filesystem="tmpfs", options=[])
        with pytest.raises(CommunicatorError, match="a file system of type tmpfs cannot be grown"):
            await grow_mounted(jail)
        assert (await trim_file_system(jail)).startswith("Not trimmed: ")


async def test_trimming_frees_what_was_deleted(blank: tuple[str, Path], tmp_path: Path) -> None:
    disk, file = blank
    host("mkfs.ext4", "-q", disk)
    async with Jail(tmp_path / "mounted") as jail:
        await jail.mount_device(disk)
        output = bytearray()
        path = jail.mount_path / "ballast"
        fill = ["sh", "-c", f"dd if=/dev/urandom of={path} bs=1M count=64 status=none; sync; rm {path}; sync"]
        assert await jail.run_beside(fill, output.extend, dict(os.environ), "/") == 0, output
        held = file.stat().st_blocks * 512
        assert held > 64 * MIB
        assert "trimmed" in await trim_file_system(jail)
        assert file.stat().st_blocks * 512 < held - 60 * MIB
        await jail.unmount(10)
