"""Look through places for what dead builds left, and remove it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from blocks.errors import BakeryError
from tasks import begun
from tasks.begun import Begun
from tasks.dead import Life, Verdict, judge
from tasks.grounds import url_of
from tasks.kept import forget_key
from tasks.mark import UNKNOWN_SERVER, Lineage, Mark
from tasks.masking import mask_error
from tasks.run import Logger
from tasks.teardown import Ground, Owned, find, tear_down
from tasks.unseen import how_to_look, listing


class Runs(Protocol):
    """What is known of flow runs."""

    server: str
    """Our Prefect server's name, or `local`."""

    async def going_on(self) -> set[UUID]:
        """Builds that are said to go on."""
        ...

    async def lives(self, runs: set[UUID]) -> dict[UUID, Life]:
        """What is known of these runs; those of which nothing is known are missing."""
        ...

    async def call_crashed(self, run: UUID, why: str, attempt: int | None) -> None:
        """Have it known that a run's process is gone: that of an attempt, or (None) of the last one."""
        ...


@dataclass(frozen=True)
class Place:
    """Somewhere to look: a project, an account."""

    name: str
    ground: Ground
    where: Mapping[str, Any] = field(default_factory=dict)
    """The same for people and for `tasks.begun`: its ground as JSON without the secrets."""


@dataclass
class Found:
    """A marked resource, and what became of it."""

    place: str
    resource: Owned
    verdict: Verdict
    outcome: str
    """`left alone`, `would be removed`, `removed`, or `could not be removed`."""
    why: str = ""
    """Why it could not be removed."""


@dataclass
class Sweep:
    """What a look through all places found and did."""

    found: list[Found] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Places that could not be looked through, and why."""
    called_dead: list[UUID] = field(default_factory=list)
    """Runs that fell silent or died on this host, which the Prefect server no longer calls running."""
    unseen: list[Begun] = field(default_factory=list)
    """Dead builds of this host in regions of which no place was looked through."""

    @property
    def left(self) -> list[Found]:
        """What should be gone and is not."""
        return [found for found in self.found if found.outcome == "could not be removed"]

    def table(self) -> list[dict[str, Any]]:
        """A row for each resource, for a table artifact."""
        return [_row(found) for found in self.found] + [
            {
                "place": url_of(each.place),
                "resource": "\n".join(made.resource for made in each.made) or "unknown",
                "flow run": str(each.mark.run),
                "outcome": "not looked for",
                "why": "it could not be looked for with the credentials that were given",
            }
            for each in self.unseen
        ]

    def report(self) -> str:
        """What a person wants to read."""
        lines = [
            f"{row['outcome']:<20} {row['place']}: {row['resource']} of flow run {row['flow run']}: {row['why']}"
            for row in map(_row, self.found)
        ]
        lines += [f"{'dead':<20} flow run {run}" for run in self.called_dead]
        lines += [f"{'not looked through':<20} {place}: {why}" for place, why in self.failed.items()]
        for each in self.unseen:
            lines += [
                f"{'not looked for':<20} {url_of(each.place)}: what flow run {each.mark.run} of this host left. "
                "It could not be looked for with the credentials that were given. By hand:",
                *(listing([each]) or [f"    {how_to_look(each.place, Lineage(each.mark.run, each.mark.attempt))}"]),
                f"    and to hear no more of it: rm {each.file}",
            ]
        if self.left:
            lines += ["", "Remove these by hand when the reason is mended:"]
            lines += [f"    {found.resource.remove_by_hand}" for found in self.left]
        return "\n".join(lines) or "Nothing of any build is there."


def _row(found: Found) -> dict[str, Any]:
    return {
        "place": found.place,
        "resource": str(found.resource),
        "flow run": str(found.resource.mark.run),
        "outcome": found.outcome,
        "why": f"{found.verdict.why}; {found.why}" if found.why else found.verdict.why,
    }


async def sweep(
    places: Sequence[Place], runs: Runs, *, dry_run: bool, logger: Logger, this_host_only: bool = False
) -> Sweep:
    """Remove what dead builds left, in all places side by side.

    Args:
        places: Where to look.
        runs: What is known of flow runs.
        dry_run: Only say what would be removed.
        logger: Told about each removal.
        this_host_only: Leave all builds of other hosts alone, whatever is known of them.
    """
    done = Sweep()

    async def look(place: Place) -> list[Found]:
        try:
            found = await find(place.ground, lambda mark: mark.host.on_this_host or not this_host_only)
        except BakeryError as error:
            mask_error(error)
            done.failed[place.name] = str(error)
            return []
        return [Found(place.name, resource, Verdict(False, ""), "left alone") for resource in found]

    async with asyncio.TaskGroup() as group:
        looks = {place.name: group.create_task(look(place)) for place in places}
    # A user's SSH keys are seen from each of the projects.
    unique = {found.resource.id: found for look_ in looks.values() for found in look_.result()}
    done.found = list(unique.values())
    known = await runs.lives({found.resource.mark.run for found in done.found} | await runs.going_on())
    now = datetime.now(UTC)
    here = {(each.mark.run, each.mark.attempt): each.mark for each in begun.dead()}
    for found in done.found:
        found.verdict = judge(_told_here(found.resource.mark, here), now=now, server=runs.server, runs=known)
    grounds = {place.name: place.ground for place in places}
    async with asyncio.TaskGroup() as group:
        for found in done.found:
            if found.verdict.remove and not found.verdict.expired:
                group.create_task(_leave_to_others(found, grounds[found.place]))
    for found in done.found:
        if found.verdict.remove:
            found.outcome = "would be removed" if dry_run else "could not be removed"
    if not dry_run:
        async with asyncio.TaskGroup() as group:
            for place in places:
                mine = [found for found in done.found if found.place == place.name and found.verdict.remove]
                alone = frozenset(found.resource.id for found in done.found if not found.verdict.remove)
                if mine:
                    group.create_task(_remove(_But(place.ground, alone), mine, logger))
        done.called_dead = await _call_crashed(runs, done.found, known)
    looked = [place.where for place in places if place.name not in done.failed]
    if not dry_run:
        _forget_what_is_gone(looked, done.found)
    regions = {url_of(where) for where in looked if where}
    done.unseen = [each for each in begun.dead() if url_of(each.place) not in regions]
    return done


def _told_here(mark: Mark, here: Mapping[tuple[UUID, int], Mark]) -> Mark:
    """The whole mark of what tells no more than its run and attempt, where that build began on this host."""
    return here.get((mark.run, mark.attempt), mark) if mark.server == UNKNOWN_SERVER else mark


def _forget_what_is_gone(looked: Sequence[Mapping[str, Any]], found: Sequence[Found]) -> None:
    """Dead builds of this host of which nothing is left: their records are of no more use."""
    left = {each.resource.mark.run for each in found if each.outcome != "removed"}
    removed = {each.resource.mark.run for each in found} - left
    for each in begun.dead():
        if each.mark.run in removed or (each.mark.run not in left and each.place in looked):
            begun.end(each.mark.run, each.mark.attempt)


async def _leave_to_others(found: Found, ground: Ground) -> None:
    try:
        others = await ground.left_to(found.resource)
    except BakeryError as error:
        mask_error(error)
        others = f"it cannot be told who is to remove it: {error}"
    if others:
        found.verdict = replace(found.verdict, remove=False, why=f"{found.verdict.why}; {others}")


@dataclass(frozen=True)
class _But:
    """A ground but for some resources, which are left alone."""

    ground: Ground
    without: frozenset[str]
    """Their ids."""

    async def owned(self) -> AsyncIterator[Owned]:
        async for resource in self.ground.owned():
            if resource.id not in self.without:
                yield resource

    async def left_to(self, resource: Owned) -> str:
        return await self.ground.left_to(resource)

    async def remove(self, resource: Owned) -> None:
        await self.ground.remove(resource)


async def _remove(ground: Ground, dead: Sequence[Found], logger: Logger) -> None:
    # The mark of an image that is to take another's place is its build's but for `final`; what it is made of goes next.
    marks: set[Mark] = {replace(found.resource.mark, final=None) for found in dead}
    try:
        removal = await tear_down(ground, lambda mark: replace(mark, final=None) in marks, logger=logger)
    except BakeryError as error:
        mask_error(error)
        for found in dead:
            found.why = str(error)
        return
    left = {resource.id: why for resource, why in removal.left.items()}
    for found in dead:
        if found.resource.id in left:
            found.why = left[found.resource.id]
        else:
            found.outcome = "removed"
    for run in {mark.run for mark in marks}:
        with suppress(OSError):
            forget_key(run)


async def _call_crashed(runs: Runs, found: Sequence[Found], known: Mapping[UUID, Life]) -> list[UUID]:
    for each in found:
        if each.verdict.dead:
            await runs.call_crashed(each.resource.mark.run, each.verdict.why, each.resource.mark.attempt)
    # A build may have left nothing, and still be said to go on. One that is kept, and may go on elsewhere, is not dead.
    gone = [each.mark for each in begun.dead() if known.get(each.mark.run) is Life.ALIVE]
    for mark in gone:
        await runs.call_crashed(mark.run, f"process {mark.host.pid} of this host is gone", mark.attempt)
    silent = sorted(run for run, life in known.items() if life is Life.SILENT)
    for run in silent:
        await runs.call_crashed(run, f"it {Life.SILENT.value}", None)
    return [*silent, *(mark.run for mark in gone)]
