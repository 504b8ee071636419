"""A wave: definitions built in order, side by side where they can be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Literal

from blocks.errors import BakeryError
from flows.fleet.family import Family


@dataclass(frozen=True)
class Outcome:
    """What became of one definition."""

    definition: str
    outcome: Literal["built", "unchanged", "failed", "not built"]
    image: str = ""
    """Id of its current image."""
    why: str = ""
    seconds: float = 0
    run: str = ""

    @property
    def is_good(self) -> bool:
        """Whether what is made after it can be built."""
        return self.outcome in ("built", "unchanged")


def chosen(
    tags: Mapping[str, Collection[str]], only: Collection[str] | None, tagged: Collection[str] | None
) -> list[str]:
    """The definitions of which a wave consists.

    Args:
        tags: The tags of all definitions.
        only: Their names; None: all.
        tagged: Tags of which they have one; None: whatever their tags.

    Raises:
        BakeryError: there is no definition of such a name, or none at all.
    """
    if unknown := sorted(set(only or ()) - tags.keys()):
        raise BakeryError(
            "there is no such definition",
            resource=", ".join(unknown),
            why=f"there are {', '.join(sorted(tags)) or 'none'}",
            hint="A variant's name is its file's and its values; on a server, deploy the definitions first.",
        )
    names = [name for name in sorted(tags) if only is None or name in only]
    found = [name for name in names if tagged is None or set(tagged) & set(tags[name])]
    if not found:
        raise BakeryError("there is no definition to build", hint="Look at --only and --tag, and at the directory.")
    return found


async def build_in_order(
    families: Mapping[str, Family],
    names: Collection[str],
    build: Callable[[str], Awaitable[Outcome]],
    limit: int,
) -> list[Outcome]:
    """Build definitions, each after those of its ancestors that are built, too.

    Args:
        families: All definitions, so that an order also holds across those that are not built.
        names: Those that are built.
        build: Builds one. It raises nothing but cancellation.
        limit: How many are built at once.

    Returns:
        What became of each, in the order in which they ended.
    """
    order = TopologicalSorter({name: family.parents & families.keys() for name, family in families.items()})
    order.prepare()
    gate = asyncio.Semaphore(limit)
    outcomes: dict[str, Outcome] = {}
    stopped: dict[str, str] = {}
    ended: asyncio.Queue[str] = asyncio.Queue()

    async def one(name: str) -> None:
        if name in names and name not in stopped:
            async with gate:
                outcomes[name] = await build(name)
        elif name in names:
            outcomes[name] = Outcome(name, "not built", why=f"{stopped[name]} failed, and it is made after that")
        ended.put_nowait(name)

    async with asyncio.TaskGroup() as group:
        while order.is_active():
            for name in order.get_ready():
                stopped |= _stopped(name, families[name].parents, outcomes, stopped)
                group.create_task(one(name))
            order.done(await ended.get())
    return list(outcomes.values())


def _stopped(
    name: str, parents: Set[str], outcomes: Mapping[str, Outcome], stopped: Mapping[str, str]
) -> dict[str, str]:
    """The definition that stops this one, if one does; also across one that is not built itself."""
    for parent in sorted(parents):
        if parent in stopped:
            return {name: stopped[parent]}
        if parent in outcomes and not outcomes[parent].is_good:
            return {name: parent}
    return {}


def table(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each definition, for a table artifact."""
    return [
        {
            "definition": each.definition,
            "outcome": each.outcome,
            "image": each.image,
            "seconds": round(each.seconds, 1),
            "why": each.why,
            "run": each.run,
        }
        for each in outcomes
    ]


def report(outcomes: Sequence[Outcome]) -> str:
    """The same for people."""
    width = max((len(each.definition) for each in outcomes), default=0)
    return "\n".join(
        f"{each.definition:<{width}}  {each.outcome:<9}  {each.seconds:>7.1f} s  "
        f"{' '.join(part for part in (each.image, each.why) if part)}".rstrip()
        for each in outcomes
    )
