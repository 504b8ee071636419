"""Who may remove a dead build's volume that is still linked to a VM."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import VolumeCreate
from emulators.outscale.region import Place as EmulatedPlace
from tasks.dead import Life
from tasks.mark import HostProcess, Mark
from tasks.outscale import links as links_module
from tasks.outscale.ground import OutscaleGround
from tasks.sweep import Place, Sweep, sweep
from tests.conftest import Tune
from tests.flows.test_reclaim import KnownRuns
from tests.tasks.outscale.box import Box, opened
from tests.tasks.support import LOG, mark_of

THERE = "i-0000beef"
DEVICE = "/dev/xvdzw"


@pytest.fixture
async def box(tmp_path: Path, tune: Tune) -> AsyncIterator[Box]:
    """A region in which the account has another VM."""
    place = EmulatedPlace(other_vms={THERE: "eu-west-2a"})
    async with opened(tmp_path / "region", tune, place=place) as box:
        yield box


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices of this host that were looked at."""
    looked: list[str] = []

    async def is_free(node: str, timeout: float) -> None:
        looked.append(node)

    async def forget(node: str) -> None:
        looked.append(node)

    monkeypatch.setattr(links_module, "wait_until_free", is_free)
    monkeypatch.setattr(links_module, "forget_partitions", forget)
    return looked


async def linked_volume(box: Box, mark: Mark) -> str:
    """A volume that a build left on the other VM, and a snapshot of it."""
    run = box.run(mark)
    request = VolumeCreate(subregion_name="eu-west-2a", client_token=run.token("volume"), size=1)
    volume = await run.client.create_volume(request)
    await run.put_mark(volume.volume_id)
    await run.client.link_volume(volume.volume_id, THERE, DEVICE)
    snapshot = await run.client.create_snapshot(volume.volume_id, description="", client_token=run.token("snapshot"))
    await run.put_mark(snapshot.snapshot_id)
    return volume.volume_id


def a_mark(hours: float = 1) -> Mark:
    """Of a process on another host, whose run our server knows."""
    elsewhere = HostProcess("11111111-2222-3333-4444-555555555555", 1, 2, 3)
    until = datetime.now(UTC) + timedelta(hours=hours)
    return replace(mark_of(server=KnownRuns.server), host=elsewhere, until=until)


async def reclaimed(box: Box, mark: Mark) -> Sweep:
    runs = KnownRuns()
    runs.known = {mark.run: Life.FINAL}
    return await sweep([Place("account", OutscaleGround(box.client()))], runs, dry_run=False, logger=LOG)


async def volumes(box: Box) -> list[str]:
    return [entry["id"] for entry in (await box.inventory())["volumes"]]


def on_the_other_vm(box: Box, tune: Tune) -> None:
    tune(outscale_metadata=f"{box.served.metadata}/{THERE}")


async def test_another_vms_worker_leaves_it_alone_and_says_whose_it_is(box: Box, asked: list[str]) -> None:
    mark = a_mark()
    volume = await linked_volume(box, mark)
    done = await reclaimed(box, mark)
    assert await volumes(box) == [volume]
    assert {found.resource.kind: found.outcome for found in done.found} == {
        "volume": "left alone",
        "snapshot": "removed",
    }
    assert f"it is linked to VM {THERE}, which is running: a worker there removes it" in done.report()
    assert asked == []


async def test_a_worker_on_its_vm_removes_it(box: Box, asked: list[str], tune: Tune) -> None:
    mark = a_mark()
    await linked_volume(box, mark)
    on_the_other_vm(box, tune)
    done = await reclaimed(box, mark)
    assert done.left == []
    assert await volumes(box) == []
    assert DEVICE in asked


async def test_anyone_removes_it_when_its_vm_is_gone(box: Box, asked: list[str]) -> None:
    mark = a_mark()
    await linked_volume(box, mark)
    box.served.region.vms.delete(THERE)
    await reclaimed(box, mark)
    assert await volumes(box) == []
    assert asked == []


async def test_anyone_removes_it_when_its_time_is_past_but_never_by_force(
    box: Box, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[bool] = []
    unlink = OutscaleClient.unlink_volume

    async def unlink_volume(client: OutscaleClient, volume_id: str, *, force: bool = False) -> None:
        forced.append(force)
        await unlink(client, volume_id, force=force)

    monkeypatch.setattr(OutscaleClient, "unlink_volume", unlink_volume)
    mark = a_mark(hours=-1)
    await linked_volume(box, mark)
    await reclaimed(box, mark)
    assert await volumes(box) == []
    # A device of the same name on this host is another volume's.
    assert asked == []
    assert set(forced) == {False}


async def test_a_hosts_own_build_is_unlinked_with_care_where_no_metadata_answer(
    box: Box, asked: list[str], tune: Tune
) -> None:
    mark = replace(a_mark(), host=replace(HostProcess.current(), start=1))
    await linked_volume(box, mark)
    tune(outscale_metadata="http://127.0.0.1:9")
    await box.gone(mark.run)
    assert await volumes(box) == []
    assert DEVICE in asked
