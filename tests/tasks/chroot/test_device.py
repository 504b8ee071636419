"""Nodes, partitions, and devices in use."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from blocks.errors import WaitExpired
from tasks.chroot.device import (
    forget_partitions,
    names_of,
    node_of,
    partition,
    run_program,
    show_partitions,
    wait_for_partition,
    wait_until_free,
)
from tasks.chroot.jail import Jail
from tasks.chroot.steps import rendered
from tests.tasks.chroot.cellar import Volume


async def test_the_hosts_tools_get_none_of_the_builders_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSC_SECRET_KEY", "canary")
    code, said = await run_program(["env"])
    assert code == 0
    assert "PATH=" in said
    assert "canary" not in said


@pytest.mark.parametrize(
    ("device", "number", "name"),
    [
        ("/dev/xvdf", 1, "/dev/xvdf1"),
        ("/dev/sda", 15, "/dev/sda15"),
        ("/dev/nvme1n1", 1, "/dev/nvme1n1p1"),
        ("/dev/loop3", 2, "/dev/loop3p2"),
        ("/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_sdf", 1, "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_sdf-part1"),
        ("/dev/xvdf", 0, "/dev/xvdf"),
    ],
)
def test_partitions_are_named_as_the_kernel_and_udev_do(device: str, number: int, name: str) -> None:
    assert partition(device, number) == name


def test_a_volume_may_show_up_by_its_id() -> None:
    assert names_of("/dev/xvdf") == ["/dev/xvdf", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_sdf"]
    assert names_of("/dev/loop1") == ["/dev/loop1"]


def test_a_node_is_found_by_the_name_of_a_link(disk: tuple[str, Path], tmp_path: Path) -> None:
    assert node_of(disk[0]) == disk[0]
    (tmp_path / "xvdz").symlink_to(disk[0])
    assert node_of(str(tmp_path / "xvdz")) == str(tmp_path / "xvdz")


def test_what_is_no_block_device_is_no_node(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no device")
    assert node_of(str(tmp_path / "file")) is None
    assert node_of(str(tmp_path / "nothing")) is None


async def test_a_partitions_node_appears_where_the_kernel_reads_no_tables(
    disk: tuple[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "xvdz").symlink_to(disk[0])
    assert await wait_for_partition(str(tmp_path / "xvdz"), 1, 10) == f"{disk[0]}p1"
    assert await wait_for_partition(disk[0], 1, 10) == f"{disk[0]}p1"
    assert await wait_for_partition(disk[0], 0, 10) == disk[0]
    await forget_partitions(disk[0])
    assert not Path(f"/sys/class/block/{Path(disk[0]).name}p1").exists()


async def test_a_partition_that_is_not_there_is_an_error_with_a_hint(disk: tuple[str, Path]) -> None:
    with pytest.raises(WaitExpired, match=r"no partition 3(.|\n)*mount_partition"):
        await wait_for_partition(disk[0], 3, 0.2)


async def test_a_device_in_use_is_waited_for_and_its_user_named(volume: Volume, tmp_path: Path) -> None:
    async with Jail(tmp_path / "mounted") as jail:
        await jail.mount_device(volume.partition)
        with pytest.raises(WaitExpired, match=f"mounted on {tmp_path}/mounted, seen by"):
            await wait_until_free(volume.disk, 0.05)
        await jail.unmount(10)
        await wait_until_free(volume.disk, 60)
    descriptor = os.open(volume.disk, os.O_RDONLY | os.O_EXCL)
    with pytest.raises(WaitExpired, match="no mount of it"):
        await wait_until_free(volume.disk, 0.05)
    os.close(descriptor)
    await wait_until_free(volume.disk, 60)


async def test_a_device_that_is_gone_is_free(tmp_path: Path) -> None:
    await wait_until_free(str(tmp_path / "gone"), 1)


async def test_partitions_that_were_just_made_are_shown_all_of_them(disk: tuple[str, Path]) -> None:
    assert await show_partitions(disk[0], 10) == [f"{disk[0]}p1"]
    table = "label: dos\nsize=8MiB\nsize=8MiB\nsize=8MiB\n"
    # This kernel may not read the table by itself: sfdisk then says so.
    subprocess.run(["sfdisk", "--quiet", disk[0]], input=table, text=True, check=False, capture_output=True)
    assert await show_partitions(disk[0], 10) == [f"{disk[0]}p{number}" for number in (1, 2, 3)]


async def test_a_disk_without_a_table_has_no_partitions(disk: tuple[str, Path]) -> None:
    subprocess.run(["wipefs", "--all", "--quiet", disk[0]], check=True, capture_output=True)
    assert await show_partitions(disk[0], 10) == []


@pytest.mark.parametrize("name", ["xvdz", "nvme9n1", "scsi-0QEMU_QEMU_HARDDISK_sdz"])
async def test_device_1_is_the_first_partition_whatever_the_devices_name(
    name: str, disk: tuple[str, Path], tmp_path: Path
) -> None:
    (tmp_path / name).symlink_to(disk[0])
    device = str(tmp_path / name)
    await show_partitions(device, 10)
    node = rendered("{{.Device}}1", device=device)
    assert Path(node).is_block_device()
    assert rendered("mkfs {{.Device}} {{.Device}}12 {{.MountPath}}", device="/dev/nvme1n1", mount_path="/m") == (
        "mkfs /dev/nvme1n1 /dev/nvme1n1p12 /m"
    )
    assert rendered("{{.Device}}1 {{.Device}}", device="/dev/xvdf") == "/dev/xvdf1 /dev/xvdf"
