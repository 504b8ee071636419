"""Linked volumes as block devices of this machine: real nodes, partitions, mounts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from emulators.outscale import devices
from emulators.outscale.times import Times
from emulators.region.home import RegionError
from tests.emulators.outscale.kitchen import VM, Client, Json, Kitchen, partition_table, until

pytestmark = pytest.mark.usefixtures("no_device_left")

Name = Callable[[], str]


@pytest.fixture
async def cloud(kitchen: Kitchen, no_device_left: None) -> AsyncIterator[Client]:
    async with kitchen.open(devices=True) as opened:
        yield opened


async def run(*argv: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


def is_there(node: str) -> bool:
    return os.path.lexists(node)


def is_block_device(node: str) -> bool:
    return Path(node).is_block_device()


def put(node: str, content: bytes) -> None:
    with Path(node).open("r+b" if is_there(node) else "wb", buffering=0) as file:
        file.write(content)


def no_device_of(kitchen: Kitchen) -> Callable[[], Any]:
    async def look() -> bool:
        return not [path for _, path in devices.loops() if path.is_relative_to(kitchen.home.directory)]

    return look


def exists(node: str) -> Callable[[], Any]:
    async def look() -> bool:
        return is_block_device(node)

    return look


def is_gone(node: str) -> Callable[[], Any]:
    async def look() -> bool:
        return not is_there(node)

    return look


async def test_a_linked_volume_is_a_block_device_with_partitions(cloud: Client, device_name: Name) -> None:
    volume, node = await cloud.volume_of_image(), device_name()
    await cloud.link(volume, node)
    assert await exists(node)()
    assert await exists(f"{node}1")()
    assert "dos" in await run("blkid", "-p", node)
    await cloud.unlink(volume)
    assert not is_there(node)
    assert not is_there(f"{node}1")


async def test_what_is_written_through_the_device_is_in_the_snapshot(
    cloud: Client, device_name: Name, tmp_path: Path
) -> None:
    volume, node = await cloud.volume_of_image(), device_name()
    await cloud.link(volume, node)
    await run("mkfs.ext4", "-q", f"{node}1")
    mount = tmp_path / "mount"
    mount.mkdir()
    await run("mount", f"{node}1", mount)
    try:
        (mount / "baked").write_text("bread")
    finally:
        await run("umount", mount)
    await cloud.unlink(volume)
    snapshot = await cloud.snapshot(volume)
    copy, other = await cloud.volume(SnapshotId=snapshot["SnapshotId"]), device_name()
    await cloud.link(copy, other)
    await run("mount", "-o", "ro", f"{other}1", mount)
    try:
        assert (mount / "baked").read_text() == "bread"
    finally:
        await run("umount", mount)
    await cloud.unlink(copy)


async def test_partitions_made_later_get_nodes_too(cloud: Client, device_name: Name) -> None:
    volume, node = await cloud.volume(), device_name()
    await cloud.link(volume, node)
    assert not is_there(f"{node}1")
    put(node, partition_table((2048, 4096), (8192, 4096)))
    await run("partx", "--update", node)
    await until(exists(f"{node}2"))
    put(node, partition_table((2048, 5000)))
    await run("partx", "--delete", "--nr", "2", node)
    await run("partx", "--update", "--nr", "1", node)
    await until(is_gone(f"{node}2"))
    assert await run("blockdev", "--getsz", f"{node}1") == "5000\n"
    await cloud.unlink(volume)
    assert not is_there(f"{node}1")


async def test_a_volume_in_use_stays_detaching_until_it_is_free(
    cloud: Client, device_name: Name, tmp_path: Path
) -> None:
    volume, node = await cloud.volume(), device_name()
    await cloud.link(volume, node)
    await run("mkfs.ext4", "-q", node)
    mount = tmp_path / "mount"
    mount.mkdir()
    await run("mount", node, mount)
    try:
        await cloud.call("UnlinkVolume", VolumeId=volume["VolumeId"])
        for _ in range(5):
            await cloud.volume_becomes(volume, "in-use", "detaching")
        assert await exists(node)()
        assert await cloud.refused("UnlinkVolume", VolumeId=volume["VolumeId"]) == (400, "6007")
    finally:
        await run("umount", mount)
    await cloud.volume_becomes(volume, "available")
    assert not is_there(node)


async def test_an_open_device_is_in_use_too(cloud: Client, device_name: Name) -> None:
    volume, node = await cloud.volume(), device_name()
    await cloud.link(volume, node)
    descriptor = os.open(node, os.O_RDONLY)
    try:
        await cloud.call("UnlinkVolume", VolumeId=volume["VolumeId"])
        await cloud.volume_becomes(volume, "in-use", "detaching")
    finally:
        os.close(descriptor)
    await cloud.volume_becomes(volume, "available")
    await cloud.link(volume, node)
    await cloud.unlink(volume)


async def test_a_forced_unlink_pulls_the_device_out(cloud: Client, device_name: Name, tmp_path: Path) -> None:
    volume, node = await cloud.volume(), device_name()
    await cloud.link(volume, node)
    await run("mkfs.ext4", "-q", node)
    mount = tmp_path / "mount"
    mount.mkdir()
    await run("mount", node, mount)
    try:
        await cloud.unlink(volume, ForceUnlink=True)
        assert not is_there(node)
        # What the mount still writes must not reach the volume: it can be linked elsewhere by now.
        (mount / "late").write_text("too late")
        await run("sync", "-f", mount)
        again = device_name()
        await cloud.link(volume, again)
        assert "late" not in await run("debugfs", "-R", "ls -l /", again)
        await cloud.unlink(volume)
    finally:
        await run("umount", mount)


async def test_a_link_that_is_ended_at_once_leaves_no_device(cloud: Client, device_name: Name) -> None:
    volume = await cloud.volume()
    for _ in range(5):
        node = device_name()
        await cloud.call("LinkVolume", VolumeId=volume["VolumeId"], VmId=VM, DeviceName=node)
        await cloud.unlink(volume, ForceUnlink=True)
        assert not is_there(node)
    assert not [path for _, path in devices.loops() if path.is_relative_to(cloud.region.directory)]


async def test_names_that_the_machine_uses_are_refused(cloud: Client, device_name: Name) -> None:
    volume, node = await cloud.volume(), device_name()
    put(node, b"a file of the host")
    try:
        body = {"VolumeId": volume["VolumeId"], "VmId": VM, "DeviceName": node}
        assert await cloud.refused("LinkVolume", **body) == (409, "9003")
    finally:
        os.unlink(node)  # noqa: PTH108
    await cloud.link(volume, node)
    await cloud.unlink(volume)


async def test_two_regions_do_not_take_each_other_s_names(
    cloud: Client, tmp_path: Path, device_name: Name, api_document: Any
) -> None:
    node = device_name()
    volume = await cloud.volume()
    await cloud.link(volume, node)
    (tmp_path / "other").mkdir()
    async with Kitchen(tmp_path / "other", api_document).open(devices=True) as other:
        second = await other.volume()
        body = {"VolumeId": second["VolumeId"], "VmId": VM, "DeviceName": node}
        assert await other.refused("LinkVolume", **body) == (409, "9003")
    assert await exists(node)()
    await cloud.unlink(volume)


async def test_a_linked_volume_grows(cloud: Client, device_name: Name) -> None:
    volume, node = await cloud.volume(), device_name()
    await cloud.link(volume, node)
    await cloud.call("UpdateVolume", VolumeId=volume["VolumeId"], Size=2)
    assert await run("blockdev", "--getsize64", node) == f"{2 << 30}\n"
    await cloud.unlink(volume)


async def test_a_stopped_region_leaves_no_device_and_links_again_when_it_starts(
    kitchen: Kitchen, device_name: Name
) -> None:
    node = device_name()
    async with kitchen.open(devices=True) as client:
        volume: Json = await client.volume_of_image()
        await client.link(volume, node)
        assert is_there(f"{node}1")
    assert not is_there(node)
    assert not is_there(f"{node}1")
    await until(no_device_of(kitchen))  # whoever has just looked at it may still have it open
    async with kitchen.open(devices=True) as client:
        await client.volume_becomes(volume, "in-use", "attached")
        await until(exists(f"{node}1"))
        await client.unlink(volume)


async def test_a_region_that_stops_under_a_mount_leaves_nothing_once_it_is_unmounted(
    kitchen: Kitchen, device_name: Name, tmp_path: Path
) -> None:
    node, mount = device_name(), tmp_path / "mount"
    mount.mkdir()
    async with kitchen.open(devices=True) as client:
        await client.link(await client.volume(), node)
        await run("mkfs.ext4", "-q", node)
        await run("mount", node, mount)
    assert not is_there(node)
    await run("umount", mount)

    await until(no_device_of(kitchen))


async def test_without_root_the_region_says_what_it_needs(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(RegionError, match="takes root"):
        async with kitchen.open(devices=True):
            pass


async def test_a_name_that_another_region_of_this_machine_is_about_to_use_is_refused(
    kitchen: Kitchen, device_name: Name, tmp_path: Path
) -> None:
    node = device_name()
    (tmp_path / "other").mkdir()
    other = Kitchen(tmp_path / "other", None)
    async with kitchen.open(devices=True, times=Times(link=600)) as slow, other.open(devices=True) as quick:
        first, second = await slow.volume(), await quick.volume()
        body = {"VmId": VM, "DeviceName": node}
        await slow.call("LinkVolume", VolumeId=first["VolumeId"], **body)
        assert await quick.refused("LinkVolume", VolumeId=second["VolumeId"], **body) == (409, "9003")
        await slow.unlink(first, ForceUnlink=True)
        await quick.link(second, node)
        await quick.unlink(second)
