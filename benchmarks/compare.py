"""Builds in turn with their floor and with empty flows: rounds, and what comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.floor import Floor, by_name
from benchmarks.programs import BenchmarkFailed
from benchmarks.regions import Calls, Region
from benchmarks.results import Comparison, StepPair
from benchmarks.running_process import Done

_STARTS = 20


@dataclass
class Side:
    """One side's rounds."""

    wall: list[float] = field(default_factory=list)
    guest: list[float] = field(default_factory=list)
    steps: list[dict[str, float]] = field(default_factory=list)
    calls: Calls = field(default_factory=Calls)

    def median_steps(self) -> dict[str, float]:
        """Each step's median over the rounds."""
        names = dict.fromkeys(name for steps in self.steps for name in steps)
        return {name: median(steps.get(name, 0.0) for steps in self.steps) for name in names}


@dataclass(frozen=True)
class Contest:
    """What is compared. Each way is called once a round, after once for nothing."""

    part: str
    title: str
    form: str
    region: Region
    build: Callable[[], Awaitable[Done]]
    floor: Callable[[], Awaitable[list[Floor]]]
    """Side by side, as many as there are builds."""
    prefect: Callable[[int], Awaitable[float]] | None = None
    """Runs an empty flow with so many tasks, and says how long that took."""
    builds: int = 1
    guest: Callable[[], Coroutine[Any, Any, float]] | None = None
    """Watches one instance from its creation to its end, and says for how long the guest was busy with itself."""
    target: float | None = None
    wall_target: float | None = None


async def compare(contest: Contest, rounds: int, say: Callable[[str], None]) -> Comparison:
    """Measure: floor, ours and Prefect in turn, the order turned round each time."""
    say(f"{contest.title}, {contest.form}")
    ours, floor, prefect, cpu = Side(), Side(), list[float](), list[float]()
    first = await contest.build()
    await contest.floor()
    # Teardown is no task.
    tasks = max(len(first.steps[0]) - 1, 1)
    for number in range(rounds):
        if number % 2 == 0:
            await _floor(contest, floor)
            await _build(contest, ours, cpu)
        else:
            await _build(contest, ours, cpu)
            await _floor(contest, floor)
        text = f"  round {number + 1} of {rounds}: floor {floor.wall[-1]:.2f} s, ours {ours.wall[-1]:.2f} s"
        if contest.prefect is not None:
            prefect.append(await contest.prefect(tasks))
            text += f", {tasks} empty tasks {prefect[-1]:.2f} s"
        say(text)
    return Comparison(
        part=contest.part,
        title=contest.title,
        form=contest.form,
        builds=contest.builds,
        ours=ours.wall,
        floor=floor.wall,
        prefect=prefect,
        guest_ours=ours.guest,
        guest_floor=floor.guest,
        first=first.wall,
        cpu=cpu,
        floor_starts=await _curl_start() * _without_waits(contest, floor) / contest.builds,
        calls_ours=dict(ours.calls.counts),
        calls_floor=dict(floor.calls.counts),
        waits=sorted(contest.region.waits),
        steps=_pairs(ours.median_steps(), floor.median_steps()),
        target=contest.target,
        wall_target=contest.wall_target,
    )


async def _build(contest: Contest, side: Side, cpu: list[float]) -> None:
    async with contest.region.counted() as side.calls, asyncio.TaskGroup() as group:
        guest = group.create_task(contest.guest()) if contest.guest else None
        done = await contest.build()
    side.wall.append(done.wall)
    cpu.append(done.cpu)
    side.steps.append(by_name(done.steps[0]))
    if guest is not None:
        side.guest.append(guest.result())
    await contest.region.tidy()


async def _floor(contest: Contest, side: Side) -> None:
    async with contest.region.counted() as side.calls, asyncio.TaskGroup() as group:
        guest = group.create_task(contest.guest()) if contest.guest else None
        floors = await contest.floor()
    side.wall.append(max(floor.wall for floor in floors))
    side.steps.append(by_name(floors[0].steps))
    if guest is not None:
        side.guest.append(guest.result())
    await contest.region.tidy()


def _pairs(ours: dict[str, float], floor: dict[str, float]) -> list[StepPair]:
    names = [*ours, *(name for name in floor if name not in ours)]
    return [StepPair(name=name, ours=ours.get(name, 0.0), floor=floor.get(name, 0.0)) for name in names]


def _without_waits(contest: Contest, side: Side) -> int:
    return sum(count for name, count in side.calls.counts.items() if name not in contest.region.waits)


async def _curl_start() -> float:
    """How long it takes to start a curl that asks nothing of anyone."""
    clock = asyncio.get_running_loop().time
    times: list[float] = []
    for _ in range(_STARTS):
        started = clock()
        child = await asyncio.create_subprocess_exec("curl", "--silent", "file:///dev/null")
        if await child.wait() != 0:
            raise BenchmarkFailed("curl does not run")
        times.append(clock() - started)
    return median(times)


async def side_by_side(floors: Sequence[Awaitable[Floor]]) -> list[Floor]:
    """Floors at once."""

    async def one(floor: Awaitable[Floor]) -> Floor:
        return await floor

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(floor)) for floor in floors]
    return [task.result() for task in tasks]
