"""Reclaim, against a region in a box and a ground in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import yaml

from blocks.errors import BakeryError, Unauthorized, Unreachable
from flows.reclaim import NoRuns, main
from tasks import begun
from tasks.dead import Life
from tasks.mark import HostProcess, Lineage, Mark
from tasks.sweep import Found, Place, sweep
from tests.conftest import RegionInABox, Tune
from tests.tasks.oxide.support import KEY
from tests.tasks.oxide.test_oxide_ground import all_of_a_build
from tests.tasks.support import LOG, MemoryGround, mark_of, owned

OURS = HostProcess.current()
GONE = replace(OURS, start=OURS.start + 1)
ELSEWHERE = HostProcess("11111111-2222-3333-4444-555555555555", 1, 2, 3)


class KnownRuns:
    """A server that knows of some runs."""

    server = "ours"

    def __init__(self) -> None:
        self.known: dict[UUID, Life] = {}
        self.crashed: list[UUID] = []

    async def going_on(self) -> set[UUID]:
        return {run for run, life in self.known.items() if life not in (Life.FINAL, Life.CANCELLED)}

    async def lives(self, runs: set[UUID]) -> dict[UUID, Life]:
        return {run: life for run, life in self.known.items() if run in runs}

    async def call_crashed(self, run: UUID, why: str, attempt: int | None) -> None:
        self.crashed.append(run)


def mark_on(host: HostProcess, server: str = "ours") -> Mark:
    return replace(mark_of(), host=host, server=server)


def outcomes(found: list[Found]) -> dict[str, str]:
    return {each.resource.name: each.outcome for each in found}


async def test_what_has_a_token_alone_goes_by_what_its_host_wrote_down(tune: Tune) -> None:
    tokens = replace(mark_on(ELSEWHERE, "unknown"), attempt=2)
    of_nobody_here = mark_on(ELSEWHERE, "unknown")
    living = replace(mark_on(ELSEWHERE, "unknown"), attempt=1)
    begun.begin(replace(tokens, host=GONE, server="local"), {"cloud": "memory"})
    begun.begin(replace(living, host=OURS, server="local"), {"cloud": "memory"})
    ground = MemoryGround(
        [owned(tokens, name="dead"), owned(of_nobody_here, name="unknown"), owned(living, name="living")]
    )
    done = await sweep([Place("here", ground)], NoRuns(), dry_run=False, logger=LOG)
    assert outcomes(done.found) == {"dead": "removed", "unknown": "left alone", "living": "left alone"}


async def test_the_dead_go_and_the_living_stay() -> None:
    runs = KnownRuns()
    ended, silent = mark_on(ELSEWHERE), mark_on(ELSEWHERE)
    runs.known = {ended.run: Life.FINAL, silent.run: Life.SILENT}
    ground = MemoryGround(
        [
            owned(mark_on(OURS), name="living"),
            owned(mark_on(GONE), name="dead"),
            owned(ended, name="ended"),
            owned(silent, name="silent"),
            owned(mark_on(ELSEWHERE, "theirs"), name="theirs"),
        ]
    )
    done = await sweep([Place("here", ground)], runs, dry_run=False, logger=LOG)
    assert outcomes(done.found) == {
        "living": "left alone",
        "dead": "removed",
        "ended": "removed",
        "silent": "removed",
        "theirs": "left alone",
    }
    assert sorted(resource.name for resource in ground.there) == ["living", "theirs"]
    # Prefect may still call these running.
    assert set(runs.crashed) == {silent.run, next(f.resource.mark.run for f in done.found if f.resource.name == "dead")}
    assert "left alone until" in done.report()


async def test_a_dead_build_that_left_nothing_is_called_crashed_too(tune: Tune) -> None:
    runs = KnownRuns()
    silent, alive, waiting = (mark_of().run for _ in range(3))
    died, suspended, living = mark_on(GONE), mark_on(GONE), mark_on(OURS)
    for mark in (died, suspended, living):
        begun.begin(mark, {"cloud": "oxide", "host": "h", "project": "p"})
    runs.known = {silent: Life.SILENT, alive: Life.ALIVE, waiting: Life.WAITING}
    runs.known |= {died.run: Life.ALIVE, suspended.run: Life.WAITING, living.run: Life.ALIVE}
    done = await sweep([Place("here", MemoryGround())], runs, dry_run=False, logger=LOG)
    assert runs.crashed == [died.run, silent]
    assert f"{'dead':<20} flow run {silent}" in done.report()
    assert f"{'dead':<20} flow run {died.run}" in done.report()


async def test_a_dry_run_changes_nothing() -> None:
    runs = KnownRuns()
    ground = MemoryGround([owned(mark_on(GONE), name="dead")])
    done = await sweep([Place("here", ground)], runs, dry_run=True, logger=LOG)
    assert outcomes(done.found) == {"dead": "would be removed"}
    assert ground.tried == []
    assert runs.crashed == []


async def test_one_place_that_fails_does_not_keep_the_others(tune: Tune) -> None:
    tune(teardown_timeout=1)
    blind = MemoryGround(blind=[Unreachable("no route")] * 5)
    stubborn = MemoryGround([owned(mark_on(GONE), name="stuck")], {"stuck": [BakeryError("not yet")] * 100})
    fine = MemoryGround([owned(mark_on(GONE), name="dead")])
    places = [Place("blind", blind), Place("stubborn", stubborn), Place("fine", fine)]
    done = await sweep(places, NoRuns(), dry_run=False, logger=LOG)
    assert done.failed == {"blind": "no route"}
    assert outcomes(done.left) == {"stuck": "could not be removed"}
    assert fine.there == []
    assert "not yet" in done.report()
    assert "cloud delete stuck" in done.report()


async def test_a_key_that_several_projects_show_counts_once() -> None:
    key = owned(mark_on(GONE), name="key")
    done = await sweep(
        [Place("a", MemoryGround([key])), Place("b", MemoryGround([key]))], NoRuns(), dry_run=True, logger=LOG
    )
    assert len(done.found) == 1


async def test_from_the_command_line(
    region: RegionInABox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build = tmp_path / "build.yaml"
    definition = {
        "boot_disk_image_id": region.image,
        "project": region.project,
        "host": region.api,
        "token": {"env": "BAKERY_TEST_TOKEN"},
        "ssh_username": "root",
    }
    build.write_text(yaml.safe_dump(definition), encoding="utf-8")
    monkeypatch.setenv("BAKERY_TEST_TOKEN", region.token.get_secret_value())
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    soon = datetime.now(UTC) + timedelta(hours=1)
    async with region.client() as client:
        await all_of_a_build(client, region, mark_on(GONE), "dead")
        await client.create_ssh_key("living", str(mark_on(OURS)), KEY)
        await client.create_ssh_key("kept", str(replace(mark_on(GONE), keep=soon)), KEY)
        await client.create_ssh_key("theirs", "not a mark", KEY)

    def reclaim(*more: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["reclaim", str(build), *more])
        code = main()
        return code, capsys.readouterr().out

    code, said = await asyncio.to_thread(reclaim, "--dry-run")
    assert code == 3
    before = await region.names()
    code_again, _ = await asyncio.to_thread(reclaim, "--dry-run")
    assert (code_again, await region.names()) == (3, before)
    code, said = await asyncio.to_thread(reclaim)
    assert code == 0, said
    assert await region.names() == ["images/dead-done", "ssh_keys/kept", "ssh_keys/living", "ssh_keys/theirs"]
    assert "kept until" in said
    assert region.token.get_secret_value() not in said


async def test_what_others_on_the_same_account_have_to_remove_stays_and_the_rest_goes() -> None:
    mark = mark_on(GONE)
    ground = MemoryGround(
        [owned(mark, name="linked"), owned(mark, name="loose")], of_others={"linked": "it is linked to VM i-1"}
    )
    done = await sweep([Place("here", ground)], NoRuns(), dry_run=False, logger=LOG)
    assert outcomes(done.found) == {"linked": "left alone", "loose": "removed"}
    assert "it is linked to VM i-1" in done.report()
    # Past the time that the mark names it is anyone's.
    late = replace(mark, until=datetime.now(UTC) - timedelta(hours=1))
    ground = MemoryGround([owned(late, name="linked")], of_others={"linked": "it is linked to VM i-1"})
    await sweep([Place("here", ground)], NoRuns(), dry_run=False, logger=LOG)
    assert ground.there == []


WHERE = {"cloud": "oxide", "host": "https://region", "insecure_skip_verify": False, "project": "p"}


async def test_dead_builds_where_nobody_looked_are_told_with_what_they_made(tune: Tune) -> None:
    mark = mark_on(GONE)
    begun.begin(mark, {**WHERE, "token": "oxide-token-1"})
    begun.made(mark, "instance a (id-1)", "oxide instance delete --instance id-1")
    done = await sweep([], NoRuns(), dry_run=False, logger=LOG)
    assert f"https://region: what flow run {mark.run} of this host left" in done.report()
    assert "instance a (id-1): oxide instance delete --instance id-1" in done.report()
    assert done.table()[-1]["flow run"] == str(mark.run)
    blind = Place("blind", MemoryGround(blind=[Unauthorized("expired")]), WHERE)
    done = await sweep([blind], NoRuns(), dry_run=False, logger=LOG)
    assert "oxide instance delete --instance id-1" in done.report()


async def test_a_dead_build_of_which_nothing_is_left_is_forgotten(tune: Tune) -> None:
    dead, stuck, living = mark_on(GONE), mark_on(GONE), mark_on(OURS)
    for mark in (dead, stuck, living):
        begun.begin(mark, WHERE)
    tune(teardown_timeout=0.5)
    ground = MemoryGround([owned(stuck, name="stuck")], {"stuck": [BakeryError("not yet")] * 100})
    await sweep([Place("here", ground, WHERE)], NoRuns(), dry_run=True, logger=LOG)
    assert [each.mark.run for each in begun.dead()] == [each.run for each in sorted((dead, stuck), key=str)]
    done = await sweep([Place("here", ground, WHERE)], NoRuns(), dry_run=False, logger=LOG)
    assert [each.mark.run for each in begun.dead()] == [stuck.run]
    assert done.unseen == []
    assert begun.of(Lineage(living.run, 1))
