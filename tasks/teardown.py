"""Teardown: remove all that carries a run's mark, in dependency order, until a fresh look finds nothing.

It needs no memory of the process that made the resources: the flow's end, its hooks and the reaper call the same
function, and several of them at once do no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from blocks.errors import BakeryError, LeftBehind
from blocks.settings import settings
from tasks.mark import Mark
from tasks.masking import mask_error
from tasks.run import Logger


@dataclass(frozen=True)
class Owned:
    """A temporary resource of ours, as a look found it."""

    kind: str
    """What it is, in the cloud's words: `instance`, `disk`, `snapshot`, …"""
    id: str
    name: str = field(compare=False)
    mark: Mark = field(compare=False)
    rank: int = field(compare=False)
    """The order of removal: all of a lower rank go first, those of the same rank side by side."""
    remove_by_hand: str = field(compare=False)
    """A command by which a person removes it."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.id})"


class Ground(Protocol):
    """Where a build leaves its resources: one cloud's view, with one user's credentials."""

    def owned(self) -> AsyncIterator[Owned]:
        """All resources here that carry any mark, whoever's."""
        ...

    async def left_to(self, resource: Owned) -> str:
        """Who else is to remove what a dead build left, and why, until the time that its mark names. Empty: anyone."""
        ...

    async def remove(self, resource: Owned) -> None:
        """Remove one, waiting where the cloud needs time. One that is gone already is no error."""
        ...


@dataclass
class Removal:
    """What a teardown did."""

    removed: list[Owned] = field(default_factory=list)
    left: dict[Owned, str] = field(default_factory=dict)
    """What is still there, and why."""
    to_remove: set[Owned] = field(default_factory=set)
    """What the last look found, and is not removed yet."""

    def raise_for_left(self) -> None:
        """Raise `LeftBehind` when something is left."""
        if self.left:
            raise LeftBehind(
                f"{len(self.left)} temporary resources could not be removed",
                why="".join(f"\n  - {resource}: {why}" for resource, why in self.left.items()),
                hint="Remove them by hand when the reason is mended:\n"
                + "\n".join(f"      {resource.remove_by_hand}" for resource in self.left),
            )


_under_way: list[Removal] = []


def under_way() -> list[Removal]:
    """The teardowns that go on in this process."""
    return list(_under_way)


async def find(ground: Ground, belongs: Callable[[Mark], bool]) -> list[Owned]:
    """All resources whose mark belongs, in the order in which they are to be removed. Changes nothing."""
    found = [resource async for resource in ground.owned() if belongs(resource.mark)]
    return sorted(found, key=lambda resource: (resource.rank, resource.name))


async def tear_down(
    ground: Ground,
    belongs: Callable[[Mark], bool],
    *,
    logger: Logger,
    known: Sequence[Owned] = (),
    settle: float = 0,
    timeout: float | None = None,
) -> Removal:
    """Remove all resources whose mark belongs.

    An error on one resource does not keep the others; the look after it tries again, with growing pauses.

    Args:
        ground: Where to look.
        belongs: Whose resources go.
        logger: Told about each removal as it happens.
        known: What is known to be there: it goes before the first look.
        settle: Seconds to go on looking after a look that found nothing: something may still come into being, because
            a create was sent and its reply was never seen.
        timeout: Seconds until it gives up; by default the setting `teardown_timeout`.
    """
    timeout = settings().teardown_timeout if timeout is None else timeout
    removal = Removal()
    _under_way.append(removal)
    try:
        await _tear_down(ground, belongs, removal, logger=logger, known=known, settle=settle, timeout=timeout)
    finally:
        _under_way[:] = [other for other in _under_way if other is not removal]
    return removal


async def _tear_down(
    ground: Ground,
    belongs: Callable[[Mark], bool],
    removal: Removal,
    *,
    logger: Logger,
    known: Sequence[Owned],
    settle: float,
    timeout: float,
) -> None:
    clock = asyncio.get_running_loop().time
    end = clock() + timeout
    settled = clock() + settle
    pause = 0.2
    while True:
        try:
            found = list(known) or await find(ground, belongs)
        except BakeryError as error:
            found = None
            logger.warning("Teardown cannot look for what is there: %s", error)
            if not _may_pass(error) or clock() + pause > end:
                raise
        known = ()
        if found is not None:
            # A cloud may go on showing what it has removed, or take its time with it.
            again = [resource for resource in found if resource in removal.removed]
            removal.left = dict.fromkeys(again, "it was removed, and is still there")
            removal.to_remove = set(found)
            removal.left |= await _remove_all(ground, found, removal, logger)
            if not found and clock() >= settled:
                return
            if found and not removal.left:
                continue
        if clock() + pause > end:
            return
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 5)


def _may_pass(error: BakeryError) -> bool:
    return bool(getattr(error, "passes", False))


async def _remove_all(ground: Ground, found: Sequence[Owned], removal: Removal, logger: Logger) -> dict[Owned, str]:
    failed: dict[Owned, str] = {}

    async def remove(resource: Owned) -> None:
        try:
            await ground.remove(resource)
        except Exception as error:
            # Whatever it is: the other resources must go all the same.
            mask_error(error)
            failed[resource] = str(error) or type(error).__name__
            logger.warning("Could not remove %s yet: %s", resource, failed[resource])
        else:
            removal.to_remove.discard(resource)
            if resource not in removal.removed:
                removal.removed.append(resource)
            logger.info("Removed %s", resource)

    for rank in sorted({resource.rank for resource in found}):
        async with asyncio.TaskGroup() as group:
            for resource in found:
                if resource.rank == rank:
                    group.create_task(remove(resource))
    return failed
