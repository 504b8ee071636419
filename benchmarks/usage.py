"""Processor time and memory of process trees, as the kernel counts them (proc(5))."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PAUSE = 1.0
"""Seconds between two looks. One reads some hundred files, and takes its time from what is measured."""
_IDLE = 0.1
"""What processes at rest may use, of one processor: Prefect's server looks after its timers."""
_REST = 120


@dataclass(frozen=True)
class Process:
    """One look at one process."""

    parent: int
    cpu: float
    """Seconds of processor time: its own, and that of children it has waited for."""
    rss: int
    """Bytes."""


@dataclass
class Usage:
    """What the trees below some processes used."""

    cpu: dict[str, float] = field(default_factory=dict)
    """Seconds of processor time, by name."""
    peak_rss: dict[str, int] = field(default_factory=dict)
    """The highest sum of resident memory that was seen, in bytes, by name. Pages that processes share count in each."""


@dataclass(frozen=True)
class Processors:
    """One look at the machine's processors: seconds since it started, of all together."""

    busy: float
    """At work."""
    stolen: float
    """Not at work although there was some: the host gave them to other machines."""

    @classmethod
    def now(cls) -> Processors:
        """A look."""
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        user, nice, system, _, _, hard, soft, stolen = (int(ticks) / _TICK for ticks in fields)
        return cls(user + nice + system + hard + soft, stolen)

    def stolen_since(self, before: Processors) -> float:
        """Of the time that was wanted since an earlier look, the share that was stolen."""
        stolen = self.stolen - before.stolen
        wanted = self.busy - before.busy + stolen
        return stolen / wanted if wanted else 0.0


def processes() -> dict[int, Process]:
    """All processes that there are."""
    found = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                # The name, in parentheses, may hold anything.
                fields = (directory / "stat").read_text(errors="replace").rpartition(")")[2].split()
                cpu = sum(map(int, fields[11:15])) / _TICK
                found[int(directory.name)] = Process(int(fields[1]), cpu, int(fields[21]) * _PAGE)
    return found


def tree(root: int, all_processes: Mapping[int, Process]) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for number, process in all_processes.items():
        children.setdefault(process.parent, []).append(number)
    found, left = [], [root] if root in all_processes else []
    while left:
        number = left.pop()
        found.append(number)
        left += children.get(number, [])
    return found


async def at_rest(roots: Mapping[str, int]) -> None:
    """Wait until process trees do next to nothing: work that is left over from one measurement is not the next one's.

    Args:
        roots: The first process of each tree, by name.

    Raises:
        TimeoutError: they are still at work after two minutes.
    """

    def used() -> float:
        seen = processes()
        return sum(seen[number].cpu for root in roots.values() for number in tree(root, seen))

    async with asyncio.timeout(_REST):
        before = used()
        while True:
            await asyncio.sleep(_PAUSE)
            now = used()
            if now - before < _IDLE * _PAUSE:
                return
            before = now


@asynccontextmanager
async def measured(roots: Mapping[str, int]) -> AsyncIterator[Usage]:
    """Look at process trees every second while the block runs. The usage is complete after it.

    Args:
        roots: The first process of each tree, by name. None is part of another.
    """
    usage = Usage()
    at_first = processes()
    before = {number: process.cpu for number, process in at_first.items()}
    members: dict[str, set[int]] = {name: set() for name in roots}

    def look() -> dict[int, Process]:
        seen = processes()
        for name, root in roots.items():
            below = tree(root, seen)
            members[name].update(below)
            usage.peak_rss[name] = max(usage.peak_rss.get(name, 0), sum(seen[number].rss for number in below))
        return seen

    async def sample() -> None:
        while True:
            look()
            await asyncio.sleep(_PAUSE)

    sampling = asyncio.create_task(sample())
    try:
        yield usage
    finally:
        sampling.cancel()
        await asyncio.wait([sampling])
        seen = look()
        for name in roots:
            # A process that has ended counts in the parent that waited for it.
            alive = [number for number in members[name] if number in seen]
            usage.cpu[name] = sum(seen[number].cpu - before.get(number, 0.0) for number in alive)
