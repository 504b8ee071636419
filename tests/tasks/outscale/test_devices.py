"""Device names and places on one VM, and links, where several builds meet."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import tasks.outscale.devices as devices_module
import tasks.outscale.links as links_module
from blocks.errors import Conflict, EndedBadly, WaitExpired
from blocks.outscale.models import Volume, VolumeCreate
from blocks.settings import settings
from emulators.outscale.times import Times
from tasks.outscale.devices import MOST_DEVICES, choose_and_link, is_taken, place_on_vm
from tasks.outscale.links import end_link, wait_for_link
from tasks.outscale.run import OutscaleRun
from tasks.outscale.waits import wait_for_volume
from tests.conftest import Tune
from tests.tasks.outscale.box import Box, CutClient, opened

VM = "i-00000001"


@pytest.fixture(autouse=True)
def no_devices_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are of no use to tests that link nothing to this host, and others may have taken some."""
    monkeypatch.setattr(devices_module, "names_of", lambda name: [f"/nowhere{name}"])


async def a_volume(box: Box, run: OutscaleRun) -> Volume:
    request = VolumeCreate(subregion_name="eu-west-2a", client_token=run.token("volume"), size=1)
    volume = await run.client.create_volume(request)
    return await wait_for_volume(run.client, volume.volume_id, 20)


async def test_the_names_that_the_region_gives_are_not_chosen(box: Box) -> None:
    run = box.run()
    names = []
    for _ in range(3):
        run = box.run()
        names.append(await choose_and_link(run, await a_volume(box, run), VM, None))
    assert names == ["/dev/xvdf", "/dev/xvdg", "/dev/xvdh"]
    assert (await box.operations()).count("LinkVolume") == 3, "none was refused"
    vm = await run.client.vm(VM)
    assert is_taken(vm, "/dev/sdf"), "the same disk by another name"
    assert not is_taken(vm, "/dev/xvdz")


async def test_the_names_that_the_kernel_has_are_not_chosen(
    box: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(devices_module, "names_of", lambda name: [str(tmp_path / Path(name).name)])
    (tmp_path / "xvdf").touch()
    (tmp_path / "xvdg").symlink_to("nowhere")
    run = box.run()
    assert await choose_and_link(run, await a_volume(box, run), VM, None) == "/dev/xvdh"


async def test_a_name_that_the_region_refuses_is_passed_over(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    run = box.run()
    first = await a_volume(box, run)
    await run.client.link_volume(first.volume_id, VM, "/dev/xvdf")
    # Somebody else's link that came between our look and our request.
    monkeypatch.setattr(devices_module, "is_taken", lambda vm, name: False)
    other = box.run()
    assert await choose_and_link(other, await a_volume(box, other), VM, None) == "/dev/xvdg"


async def test_a_link_whose_reply_is_lost_is_found(box: Box) -> None:
    run = box.run()
    volume = await a_volume(box, run)
    await box.fault(operation="LinkVolume", kind="drop_after")
    assert await choose_and_link(run, volume, VM, None) == "/dev/xvdf"
    assert [link.device_name for link in (await run.client.volume(volume.volume_id)).linked_volumes] == ["/dev/xvdf"]


async def test_a_name_that_was_asked_for_and_is_taken_is_an_error(box: Box) -> None:
    run = box.run()
    await choose_and_link(run, await a_volume(box, run), VM, "/dev/xvdk")
    other = box.run()
    with pytest.raises(WaitExpired, match=r"no device name is free: tried /dev/xvdk; taken on the VM"):
        await choose_and_link(other, await a_volume(box, other), VM, "/dev/xvdk")


async def test_builds_side_by_side_never_choose_the_same(tmp_path: Path, tune: Tune) -> None:
    async with opened(tmp_path / "region", tune, times=Times(link=1.0)) as box:
        runs = [box.run() for _ in range(8)]
        volumes = await asyncio.gather(*(a_volume(box, run) for run in runs))
        done = len(await box.operations())
        clock = asyncio.get_running_loop().time
        start = clock()
        names = await asyncio.gather(
            *(choose_and_link(run, volume, VM, None) for run, volume in zip(runs, volumes, strict=True))
        )
        links = [name for name in (await box.operations())[done:] if name == "LinkVolume"]
        states = {(await box.client().volume(volume.volume_id)).linked_volumes[0].state for volume in volumes[-1:]}
    assert len(set(names)) == len(names)
    assert len(links) == len(names), "none was refused"
    # The lock is not held while a link takes its time: that would have been eight seconds.
    assert clock() - start < 8 or states == {"attaching"}


class TestPlaces:
    async def test_a_build_waits_while_there_are_so_many(self, box: Box) -> None:
        began: list[str] = []

        @asynccontextmanager
        async def place(name: str, most: int) -> AsyncIterator[None]:
            async with place_on_vm(box.run(), most):
                began.append(name)
                yield

        async with place("first", MOST_DEVICES), place("second", 2):
            third = asyncio.create_task(_enter(place("third", 2)))
            fourth = asyncio.create_task(_enter(place("fourth", 3)))
            await asyncio.wait_for(fourth, 20)
            assert began == ["first", "second", "fourth"]
            assert not third.done()
        await asyncio.wait_for(third, 20)
        assert began[-1] == "third"

    async def test_waiting_can_be_cancelled_and_leaves_the_place(self, box: Box) -> None:
        async with place_on_vm(box.run(), 1):
            waiting = asyncio.create_task(_enter(place_on_vm(box.run(), 1)))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await asyncio.wait_for(_enter(place_on_vm(box.run(), 1)), 20)

    async def test_a_place_dies_with_its_process(self, box: Box) -> None:
        await asyncio.wait_for(_enter(place_on_vm(box.run(), 1)), 20)
        lock = settings().state_dir / "place-1.lock"
        hold = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", hold, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"\n"
            waiting = asyncio.create_task(_enter(place_on_vm(box.run(), 1)))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            holder.kill()
        await asyncio.wait_for(waiting, 20)


async def _enter(context: Any) -> None:
    async with context:
        pass


class TestLinks:
    async def test_a_link_that_comes_to_nothing_ends_the_wait(self, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(links_module, "_FIRST_LOOK", 0.01)
        run = box.run()
        volume = await a_volume(box, run)
        with pytest.raises(EndedBadly, match="its link came to nothing: the volume is available again"):
            await wait_for_link(run.client, volume.volume_id, "/dev/xvdzz", 20)

    async def test_a_node_that_never_comes_says_what_the_region_says(
        self, box: Box, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(links_module, "_FIRST_LOOK", 0.01)
        run = box.run()
        volume = await a_volume(box, run)
        await run.client.link_volume(volume.volume_id, VM, "/dev/xvdzz")
        with pytest.raises(WaitExpired, match=r"says of the link: attach(?s:.*)nvme_device_path"):
            await wait_for_link(run.client, volume.volume_id, "/dev/xvdzz", 1)

    async def test_a_link_is_ended_though_it_is_not_yet_made(self, tmp_path: Path, tune: Tune) -> None:
        async with opened(tmp_path / "region", tune, times=Times(link=0.5)) as box:
            run = box.run()
            volume = await a_volume(box, run)
            await run.client.link_volume(volume.volume_id, VM, "/dev/xvdzy")
            await end_link(run.client, await run.client.volume(volume.volume_id), [], 20)
            assert (await run.client.volume(volume.volume_id)).state == "available"

    async def test_a_link_that_has_ended_already_is_no_error(self, box: Box) -> None:
        run = box.run()
        volume = await a_volume(box, run)
        with pytest.raises(Conflict):
            await run.client.unlink_volume(volume.volume_id)
        await end_link(run.client, volume, ["/dev/nowhere"], 20)

    async def test_watching_the_kernel_costs_no_requests(
        self, box: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(links_module, "node_of", lambda device: device if Path(device).exists() else None)
        client = box.client(kind=CutClient)
        waiting = asyncio.create_task(wait_for_link(client, "vol-00000000", str(tmp_path / "xvdf"), 20))
        await asyncio.sleep(0.3)
        (tmp_path / "xvdf").touch()
        assert await waiting == str(tmp_path / "xvdf")
        assert client.requests == 0
