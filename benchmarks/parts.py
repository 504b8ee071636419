"""The parts of the benchmark, each with what it needs around it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from benchmarks.compare import Contest, compare, side_by_side
from benchmarks.crowd import one_process, worker_runs
from benchmarks.floor import Floor, floor, write_provisioners
from benchmarks.guest_time import guest_time
from benchmarks.prefect_server import Database, prefect_server
from benchmarks.programs import clean_environment, finished
from benchmarks.reaction import reactions
from benchmarks.regions import OutscaleRegion, OxideRegion, outscale_region, oxide_region
from benchmarks.results import Results
from benchmarks.running_process import Done, RunningProcess, Step, running_process

_ONE = 600
"""Seconds that one build may take, whatever it is."""


@dataclass(frozen=True)
class Latencies:
    """How long the Oxide region takes, in seconds."""

    start: float = 4
    """From an instance's create to running."""
    stop: float = 3
    boot: float = 3
    """A cheap machine's, until its SSH server starts."""


OUTSCALE_NONE = dict.fromkeys(("volume", "link", "unlink", "snapshot", "image"), 0.0)
OUTSCALE_LONG = {"volume": 2.0, "link": 3.0, "unlink": 2.0, "snapshot": 7.0, "image": 5.0}
OUTSCALE_SHORT = {"volume": 2.0, "link": 2.0, "unlink": 1.0, "snapshot": 1.0, "image": 1.0}


@dataclass(frozen=True)
class Plan:
    """How the benchmark is run."""

    directory: Path
    guest: Path
    rounds: int
    results: Results
    say: Callable[[str], None]
    latencies: Latencies = Latencies()
    database: Database = "postgresql"
    """Of what is measured one at a time."""
    builds: tuple[int, ...] = (1, 5, 20)
    """How many at once."""


async def oxide(plan: Plan) -> None:
    """One Oxide build on the cheap backend, in a running process with a running server."""
    async with (
        _oxide(plan, "oxide", "cheap") as (region, definition, base),
        prefect_server(base / "prefect", plan.database) as server,
        running_process(base / "builds.log", server.env) as process,
    ):
        contest = Contest(
            part="oxide",
            title="An Oxide image",
            form="running process",
            region=region,
            build=partial(process.build, region.builder, definition, timeout=_ONE),
            floor=partial(_oxide_floor, region, base),
            prefect=partial(_empty, process),
            target=0.3,
        )
        plan.results.comparisons.append(await compare(contest, plan.rounds, plan.say))


async def qemu(plan: Plan) -> None:
    """The same with a virtual machine, whose own time is taken out on both sides."""
    async with (
        _oxide(plan, "qemu", "qemu") as (region, definition, base),
        prefect_server(base / "prefect", plan.database) as server,
        running_process(base / "builds.log", server.env) as process,
    ):
        contest = Contest(
            part="qemu",
            title=f"An Oxide image on {region.ready['machines']}",
            form="running process",
            region=region,
            build=partial(process.build, region.builder, definition, timeout=_ONE),
            floor=partial(_oxide_floor, region, base),
            prefect=partial(_empty, process),
            guest=partial(guest_time, region),
            target=0.3,
        )
        plan.results.comparisons.append(await compare(contest, plan.rounds, plan.say))


async def command(plan: Plan) -> None:
    """One Oxide build by its command line, Python's start and a Prefect server of its own included."""
    async with _oxide(plan, "command", "cheap") as (region, definition, base):
        env = clean_environment(
            PREFECT_HOME=str(base / "prefect"),
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
            IMAGE_BAKERY_STATE_DIR=str(base / "bakery"),
        )
        log = base / "builds.log"

        async def build() -> Done:
            artifact = base / "artifact.json"
            argv = [sys.executable, "-m", "flows.oxide_image", str(definition), "--artifact", str(artifact)]
            wall = await _timed(finished(argv, log=log, env=env, timeout=_ONE))
            return Done(wall=wall, cpu=0, steps=[_Artifact.model_validate_json(artifact.read_bytes()).steps])

        def empty(tasks: int) -> Awaitable[float]:
            argv = [sys.executable, "-m", "benchmarks.empty", str(tasks)]
            return _timed(finished(argv, log=base / "empty.log", env=env, timeout=_ONE))

        contest = Contest(
            part="command",
            title="An Oxide image",
            form="command line",
            region=region,
            build=build,
            floor=partial(_oxide_floor, region, base),
            prefect=empty,
            target=1.0,
        )
        plan.results.comparisons.append(await compare(contest, plan.rounds, plan.say))


async def parallel(plan: Plan) -> None:
    """Several Oxide builds at once in one process."""
    databases: list[Database] = ["postgresql", "sqlite"]
    for database in databases if plan.database == "postgresql" else [plan.database]:
        async with (
            _oxide(plan, f"parallel-{database}", "cheap") as (region, definition, base),
            prefect_server(base / "prefect", database) as server,
            running_process(base / "builds.log", server.env) as process,
        ):
            # SQLite is reported beside it; twenty builds take minutes there.
            rounds = min(plan.rounds, 3) if database == "postgresql" else 1
            plan.results.crowds += await one_process(region, definition, server, process, plan.builds, rounds, plan.say)


async def workers(plan: Plan) -> None:
    """The same as worker runs, each a process."""
    async with (
        _oxide(plan, "workers", "cheap") as (region, definition, base),
        prefect_server(base / "prefect", plan.database) as server,
    ):
        plan.results.crowds += await worker_runs(region, definition, server, base, plan.builds, plan.say)


async def event(plan: Plan) -> None:
    """From an event to the first step of the build that it starts."""
    async with (
        _oxide(plan, "event", "cheap") as (region, definition, base),
        prefect_server(base / "prefect", plan.database) as server,
    ):
        plan.results.reaction = await reactions(region, definition, server, base, plan.rounds, plan.say)


async def outscale(plan: Plan) -> None:
    """OMIs: with no delay, with long ones, and three side by side, each at two rates."""
    for name, times, builds, goals in (
        ("no delay", OUTSCALE_NONE, (1,), {1: 1.0}),
        ("2, 3, 2, 7, 5 s", OUTSCALE_LONG, (1,), {1: 20.0}),
        ("2, 2, 1, 1, 1 s", OUTSCALE_SHORT, (1, 3), {}),
    ):
        base = plan.directory / f"outscale-{int(sum(times.values()))}"
        base.mkdir()
        provisioners = write_provisioners(base / "provisioners")
        async with (
            outscale_region(base / "region", plan.guest, times) as region,
            prefect_server(base / "prefect", plan.database) as server,
        ):
            definition = await region.write_definition(base / "build.yaml", provisioners)
            for rate in (100, 5):
                env = {**server.env, **region.env, "IMAGE_BAKERY_OUTSCALE_RATE": str(rate)}
                async with running_process(base / f"builds-{rate}.log", env) as process:
                    for count in builds:
                        contest = Contest(
                            part="outscale",
                            title=f"{f'{count} OMIs' if count > 1 else 'An OMI'}, {name}, {rate} requests a second",
                            form="running process",
                            region=region,
                            builds=count,
                            build=partial(process.build, region.builder, definition, count=count, timeout=_ONE),
                            floor=partial(_outscale_floors, region, base, count, rate),
                            prefect=partial(_empty, process, count=count),
                            wall_target=goals.get(count) if rate == 100 else None,
                        )
                        plan.results.comparisons.append(await compare(contest, plan.rounds, plan.say))


PARTS: Mapping[str, Callable[[Plan], Awaitable[None]]] = {
    "oxide": oxide,
    "command": command,
    "qemu": qemu,
    "parallel": parallel,
    "workers": workers,
    "event": event,
    "outscale": outscale,
}
NEED_ROOT = frozenset(PARTS) - {"qemu"}
"""Cheap machines and block devices do."""


class _Artifact(BaseModel):
    """What a build's command line writes; only its steps are read."""

    steps: list[Step]


@asynccontextmanager
async def _oxide(plan: Plan, name: str, machines: str) -> AsyncIterator[tuple[OxideRegion, Path, Path]]:
    base = plan.directory / name
    base.mkdir()
    provisioners = write_provisioners(base / "provisioners")
    times = plan.latencies
    boot = times.boot if machines == "cheap" else None
    async with oxide_region(
        base / "region", plan.guest, machines, start=times.start, stop=times.stop, boot=boot
    ) as region:
        yield region, await region.write_definition(base / "build.yaml", provisioners), base


async def _oxide_floor(region: OxideRegion, base: Path) -> list[Floor]:
    return [await floor("oxide.sh", region, base / "provisioners", base / "floor.log", timeout=_ONE)]


async def _outscale_floors(region: OutscaleRegion, base: Path, count: int, rate: int) -> list[Floor]:
    free = [name for letter in "edcbzyxwvuts" if not os.path.lexists(name := f"/dev/xvd{letter}")]
    return await side_by_side(
        [
            floor(
                "outscale.sh",
                region,
                base / "provisioners",
                base / "floor.log",
                timeout=_ONE,
                RATE=str(rate),
                # The rate is the account's, and so is that of all scripts together.
                WINDOW=str(1_100_000 * count),
                DEVICE=device,
            )
            for device in free[:count]
        ]
    )


async def _empty(process: RunningProcess, tasks: int, count: int = 1) -> float:
    return (await process.empty([0.0] * tasks, count=count, timeout=_ONE)).wall


async def _timed(work: Awaitable[object]) -> float:
    clock = asyncio.get_running_loop().time
    started = clock()
    await work
    return clock() - started
