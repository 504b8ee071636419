"""Replacing an image: wherever it is cut, the old image or the new one has the name, and teardown finishes the rest."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from blocks.errors import AlreadyExists, EndedBadly, LeftBehind
from blocks.oxide.client import OxideClient
from blocks.oxide.credentials import OxideCredentials
from blocks.oxide.models import Image, Snapshot
from tasks.dead import Life
from tasks.grounds import opened, oxide
from tasks.mark import provenance
from tasks.oxide.ground import OxideGround
from tasks.oxide.images import register_image
from tasks.oxide.plan import ImagePlan
from tasks.oxide.replacing import make_stand_in, remove_former
from tasks.oxide.run import OxideRun
from tasks.sweep import Place, sweep
from tasks.teardown import tear_down
from tests.conftest import RegionInABox, Tune
from tests.tasks.oxide.support import Killed, Mortal, a_run, a_snapshot, an_image, ask, cleaned, requests
from tests.tasks.support import LOG

CUTS = [(at, after) for at in range(3) for after in (False, True)]
"""Before and after each of: the stand-in is made, the former image goes, the name is given to the new one."""


def plan(region: RegionInABox, *, silo: bool = False) -> ImagePlan:
    return ImagePlan("web", "for the web", "debian", "12", None if silo else region.project)


async def swap(run: OxideRun, image: ImagePlan, snapshot: Snapshot) -> Image:
    await make_stand_in.fn(run, image, snapshot)
    await remove_former.fn(run, image)
    return await register_image.fn(run, image, snapshot)


async def a_former_image(region: RegionInABox, image: ImagePlan) -> Image:
    """An image of an earlier build, whose other resources are gone."""
    async with region.client() as client:
        earlier = a_run(region, client=client)
        former = await an_image(client, image.project, image.name, await a_snapshot(earlier, region))
        await cleaned(earlier, client)
    return former


async def dies(region: RegionInABox, image: ImagePlan, at: int, *, after: bool) -> OxideRun:
    """A run that has its snapshot, and whose process dies while it replaces the image."""
    async with region.client() as client:
        run = a_run(region, client=client)
        snapshot = await a_snapshot(run, region)
    mortal = OxideClient(region.api, region.token, transport=Mortal(at, after=after))
    async with mortal:
        run.client = mortal
        with pytest.raises(Killed):
            await swap(run, image, snapshot)
    return run


@pytest.mark.parametrize("silo", [False, True], ids=["project", "silo"])
async def test_the_new_image_has_the_name_and_nothing_else_is_left(region: RegionInABox, silo: bool) -> None:
    image = plan(region, silo=silo)
    former = await a_former_image(region, image)
    async with region.client() as client:
        run = a_run(region, client=client)
        made = await swap(run, image, await a_snapshot(run, region))
        await cleaned(run, client)
        assert made.id != former.id
        assert await client.image("web", project=image.project) == made
        assert (made.os, made.version) == ("debian", "12")
        assert made.description == f"for the web {provenance(run.id)}"
        assert await region.names() == ["images/web"]


@pytest.mark.parametrize(("at", "after", "silo"), [*((*cut, False) for cut in CUTS), (0, True, True), (1, True, True)])
async def test_a_kill_leaves_the_old_image_or_the_new_one(
    region: RegionInABox, at: int, after: bool, silo: bool
) -> None:
    image = plan(region, silo=silo)
    former = await a_former_image(region, image)
    run = await dies(region, image, at, after=after)
    names = [name for name in await region.names() if name.startswith(("images/", "snapshots/"))]
    assert "images/web" in names or {f"images/{run.owned_name('image')}", f"snapshots/{run.owned_name()}"} <= set(names)
    former_is_gone = (at, after) >= (1, True)

    ground = oxide(OxideCredentials(host=region.api, token=region.token), region.project)
    async with opened(ground, run.lineage) as elsewhere:  # as the reaper sees it
        (await tear_down(elsewhere, run.lineage.owns, logger=LOG)).raise_for_left()
    assert await region.names() == ["images/web"]
    async with region.client() as client:
        found = await client.image("web", project=image.project)
        assert (found.id != former.id) is former_is_gone
        if former_is_gone:
            assert found.description.endswith(provenance(run.id))
            assert (found.os, found.version, found.size) == ("debian", "12", former.size)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(5))
async def test_a_teardown_that_is_killed_is_finished_by_the_next(region: RegionInABox, at: int, after: bool) -> None:
    image = plan(region)
    await a_former_image(region, image)
    run = await dies(region, image, 1, after=True)  # neither image has the name
    mortal = OxideClient(region.api, region.token, transport=Mortal(at, after=after))
    async with mortal:
        with pytest.raises((Killed, BaseExceptionGroup)):
            await cleaned(run, mortal)
    async with region.client() as client:
        (await cleaned(run, client)).raise_for_left()
        assert (await client.image("web", project=region.project)).description == provenance(run.id)
        assert await region.names() == ["images/web"]


async def test_two_teardowns_at_once_finish_it_once(region: RegionInABox) -> None:
    image = plan(region)
    await a_former_image(region, image)
    run = await dies(region, image, 1, after=True)
    async with region.client() as one, region.client() as other, asyncio.TaskGroup() as both:
        removals = [both.create_task(cleaned(run, one)), both.create_task(cleaned(run, other))]
    assert [task.result().left for task in removals] == [{}, {}]
    assert await region.names() == ["images/web"]


async def test_a_removal_that_is_still_on_its_way_is_waited_for(region: RegionInABox, tune: Tune) -> None:
    """The process died after it had asked for the former image's removal, and the rack takes its time with that."""
    image = plan(region)
    former = await a_former_image(region, image)
    async with region.client() as client:
        run = a_run(region, client=client)
        snapshot = await a_snapshot(run, region)
        await make_stand_in.fn(run, image, snapshot)
        await region.fault(operation="image_delete", kind="latency", seconds=1.5)
        removal = asyncio.create_task(remove_former.fn(run, image))
        await asyncio.sleep(0)
        while "image_delete" not in await requests(region):
            await asyncio.sleep(0.02)
        tune(settle_time=10)
        async with region.client() as reaper:
            await cleaned(run, reaper)
        await removal
        found = await client.image("web", project=region.project)
        assert found.id != former.id
        assert found.description.endswith(provenance(run.id))
        assert await region.names() == ["images/web"]


async def test_the_snapshot_stays_for_as_long_as_the_swap_is_not_finished(region: RegionInABox, tune: Tune) -> None:
    image = plan(region)
    await a_former_image(region, image)
    run = await dies(region, image, 1, after=True)
    await region.fault(operation="image_create", kind="status", status=403, count=None)
    tune(teardown_timeout=0.3)
    async with region.client() as client:
        with pytest.raises(LeftBehind) as left:
            (await cleaned(run, client)).raise_for_left()
        stand_in = await client.image(run.owned_name("image"), project=region.project)
        assert "an image web must be there first" in str(left.value)
        assert stand_in.id in str(left.value)
        names = [f"images/{run.owned_name('image')}", f"snapshots/{run.owned_name()}"]
        assert await region.names() == names


async def test_a_stand_in_whose_snapshot_is_gone_is_never_removed(region: RegionInABox, tune: Tune) -> None:
    image = plan(region)
    await a_former_image(region, image)
    run = await dies(region, image, 1, after=True)
    tune(teardown_timeout=0.3)
    async with region.client() as client:
        snapshot = await client.snapshot(run.owned_name(), project=region.project)
        await client.delete_snapshot(snapshot.id)
        removal = await cleaned(run, client)
        (why,) = removal.left.values()
        assert "its snapshot is gone" in why
        assert await region.names() == [f"images/{run.owned_name('image')}"]


async def test_a_retry_of_a_step_finds_what_its_first_try_did(region: RegionInABox) -> None:
    image = plan(region)
    former = await a_former_image(region, image)
    async with region.client() as client:
        run = a_run(region, client=client)
        snapshot = await a_snapshot(run, region)
        for operation in ("image_create", "image_delete"):
            await region.fault(operation=operation, kind="drop_after")
        await region.fault(operation="image_create", kind="drop_after", skip=1)
        made = await swap(run, image, snapshot)
        assert made.id != former.id
        await remove_former.fn(run, image)  # tried again once all is done
        assert (await client.image("web", project=region.project)).id == made.id
        await cleaned(run, client)
        assert await region.names() == ["images/web"]


async def test_a_new_image_that_is_not_good_leaves_the_old_one(region: RegionInABox) -> None:
    image = plan(region)
    former = await a_former_image(region, image)
    async with region.client() as client:
        run = a_run(region, client=client)
        snapshot = await a_snapshot(run, region)
        with pytest.raises(EndedBadly, match="not what its snapshot is"):
            await swap(run, image, snapshot.model_copy(update={"size": 2 * snapshot.size}))
        await cleaned(run, client)
        assert (await client.image("web", project=region.project)).id == former.id
        assert await region.names() == ["images/web"]


async def test_only_the_image_of_that_very_name_goes(region: RegionInABox) -> None:
    image = plan(region)
    await a_former_image(region, image)
    others = [replace(image, name="web-2"), replace(image, project=None)]
    kept = [await a_former_image(region, other) for other in others]
    async with region.client() as client:
        run = a_run(region, client=client)
        await swap(run, image, await a_snapshot(run, region))
        await cleaned(run, client)
        for one in kept:
            assert (await client.image(one.id)).name == one.name


async def test_another_runs_stand_in_is_left_alone(region: RegionInABox) -> None:
    image = plan(region)
    await a_former_image(region, image)
    theirs = await dies(region, image, 1, after=True)
    before = await region.names()
    async with region.client() as client:
        await cleaned(a_run(region, client=client), client)
    assert await region.names() == before
    async with region.client() as client:
        found = [one async for one in OxideGround(client, region.project).owned() if one.kind == "image"]
    assert [one.mark.final for one in found] == ["web"]
    assert found[0].mark == replace(theirs.mark, until=found[0].mark.until, final="web")


async def test_without_force_nothing_of_it_happens(region: RegionInABox) -> None:
    image = plan(region)
    former = await a_former_image(region, image)
    async with region.client() as client:
        run = a_run(region, client=client)
        snapshot = await a_snapshot(run, region)
        with pytest.raises(Exception, match="did not make") as refused:
            await register_image.fn(run, image, snapshot)
        assert isinstance(refused.value.__cause__, AlreadyExists)
        assert (await client.image("web", project=region.project)).id == former.id
        await cleaned(run, client)
    assert await region.names() == ["images/web"]


async def test_what_a_kept_build_goes_on_with_stays_together(region: RegionInABox) -> None:
    """The snapshot is of an attempt that was kept; the attempt that goes on makes the stand-in, and dies."""
    image = plan(region)
    await a_former_image(region, image)
    async with region.client() as client:
        first = a_run(region, client=client)
        first.mark = replace(first.mark, keep=first.mark.until)
        snapshot = await a_snapshot(first, region)
    async with OxideClient(region.api, region.token, transport=Mortal(1, after=True)) as mortal:
        second = a_run(region, client=mortal, run=first.id, attempt=2)
        with pytest.raises(Killed):
            await swap(second, image, snapshot)
    async with region.client() as client:
        (await cleaned(second, client)).raise_for_left()
        assert (await client.image("web", project=region.project)).description == provenance(first.id)
    assert await region.names() == ["images/web"]


async def test_a_silos_image_is_finished_where_its_snapshot_is(region: RegionInABox) -> None:
    image = plan(region, silo=True)
    await a_former_image(region, image)
    run = await dies(region, image, 1, after=True)
    await ask(region, "POST", "/v1/projects", name="other", description="")
    async with region.client() as client:
        elsewhere = OxideGround(client, "other")
        assert [one async for one in elsewhere.owned() if one.kind == "image"] == []
        await tear_down(elsewhere, run.lineage.owns, logger=LOG)
        assert f"images/{run.owned_name('image')}" in await region.names()
        (await cleaned(run, client)).raise_for_left()
    assert await region.names() == ["images/web"]


async def test_reclaim_leaves_nothing_of_it(region: RegionInABox) -> None:
    image = plan(region)
    await a_former_image(region, image)
    async with region.client() as client:
        run = a_run(region, client=client)
        elsewhere = replace(run.mark.host, boot_id=str(uuid4()))
        run.mark = replace(run.mark, host=elsewhere, until=datetime.now(UTC) - timedelta(hours=1))
        snapshot = await a_snapshot(run, region)
        instance = await client.instance(run.owned_name(), project=region.project)
        await client.delete_instance(instance.id)
        await client.delete_disk(str(instance.boot_disk_id))
        await make_stand_in.fn(run, image, snapshot)
        await remove_former.fn(run, image)
        done = await sweep([Place("here", OxideGround(client, region.project))], _NoRuns(), dry_run=False, logger=LOG)
        assert [found.outcome for found in done.found] == ["removed"]
        assert (await client.image("web", project=region.project)).description == provenance(run.id)
    assert await region.names() == ["images/web"]


class _NoRuns:
    """A server that knows of no run."""

    server = "another"

    async def lives(self, runs: set[UUID]) -> dict[UUID, Life]:
        return {}

    async def going_on(self) -> set[UUID]:
        return set()

    async def call_crashed(self, run: UUID, why: str, attempt: int | None) -> None: ...
