"""Builds side by side: in one process, and as runs of a worker."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import yaml

from benchmarks.floor import by_name
from benchmarks.prefect_server import PrefectServer
from benchmarks.programs import BenchmarkFailed, eventually, finished, program
from benchmarks.regions import OxideRegion
from benchmarks.results import Crowd
from benchmarks.running_process import RunningProcess
from benchmarks.usage import Usage, at_rest, measured

_TIMEOUT = 900
_POOL = "bakery"
_DEPLOYMENT = "build-oxide-image/by-hand"
_FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


async def one_process(
    region: OxideRegion,
    definition: Path,
    server: PrefectServer,
    process: RunningProcess,
    builds: Sequence[int],
    rounds: int,
    say: Callable[[str], None],
) -> list[Crowd]:
    """Builds at once in one process, against empty flows with the same tasks and sleeps."""
    say(f"Oxide images side by side in one process, {server.database}")
    alone = await process.build(region.builder, definition, timeout=_TIMEOUT)
    sleeps = [seconds for name, seconds in by_name(alone.steps[0]).items() if name != "tear down"]
    crowds = []
    for count in builds:
        wall, empty, used, used_empty = list[float](), list[float](), list[Usage](), list[Usage]()
        error = ""
        for _ in range(rounds):
            roots = {"builds": process.pid, "region": region.pid, **server.processes}
            await at_rest(roots)
            try:
                async with measured(roots) as usage:
                    done = await process.build(region.builder, definition, count=count, timeout=_TIMEOUT)
            except BenchmarkFailed as failure:
                error = str(failure)
                break
            wall.append(done.wall)
            used.append(usage)
            await region.tidy()
            await at_rest(roots)
            async with measured(roots) as usage:
                empty.append((await process.empty(sleeps, count=count, timeout=_TIMEOUT)).wall)
            used_empty.append(usage)
        crowd = _crowd("running process", server, count, wall, used, empty=empty, used_empty=used_empty, error=error)
        say(f"  {count} at once: {_said(crowd)}")
        crowds.append(crowd)
        if error:
            break
    return crowds


async def worker_runs(
    region: OxideRegion,
    definition: Path,
    server: PrefectServer,
    directory: Path,
    builds: Sequence[int],
    say: Callable[[str], None],
) -> list[Crowd]:
    """Builds at once as runs of one process worker, each in a process of its own."""
    say(f"Oxide images side by side as runs of a worker, {server.database}")
    await finished(["tools/deploy"], log=directory / "deploy.log", env=server.env, timeout=300)
    parameters = {"build": yaml.safe_load(definition.read_text(encoding="utf-8"))}
    argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", _POOL]
    log = directory / "worker.log"
    crowds = []
    async with (
        program(argv, log=log, env=server.env) as worker,
        httpx.AsyncClient(base_url=f"{server.api}/", trust_env=False, timeout=60) as api,
    ):
        for count in builds:
            roots = {"builds": worker.pid, "region": region.pid, **server.processes}
            clock = asyncio.get_running_loop().time
            async with measured(roots) as usage:
                started = clock()
                error = await _run(api, parameters, count, log)
                wall = clock() - started
            crowd = _crowd("worker runs", server, count, [] if error else [wall], [usage], error=error)
            say(f"  {count} at once: {_said(crowd)}")
            crowds.append(crowd)
            await region.tidy()
            if error:
                break
    return crowds


async def _run(api: httpx.AsyncClient, parameters: Mapping[str, Any], count: int, log: Path) -> str:
    """Start runs and wait for their ends; what went wrong, if anything."""
    deployment = (await api.get(f"deployments/name/{_DEPLOYMENT}")).raise_for_status().json()["id"]
    runs = []
    for _ in range(count):
        reply = await api.post(f"deployments/{deployment}/create_flow_run", json={"parameters": parameters})
        runs.append(reply.raise_for_status().json()["id"])

    async def all_final() -> list[str] | None:
        await asyncio.sleep(0.5)
        body = {"flow_runs": {"id": {"any_": runs}}, "limit": 200}
        states = [
            run["state_type"] for run in (await api.post("flow_runs/filter", json=body)).raise_for_status().json()
        ]
        return states if len(states) == count and set(states) <= _FINAL else None

    states = await eventually(all_final, _TIMEOUT, f"the worker's runs have ended: see {log}")
    failed = [state for state in states if state != "COMPLETED"]
    return f"{len(failed)} of {count} runs ended {', '.join(sorted(set(failed)))}: see {log}" if failed else ""


def _crowd(
    form: str,
    server: PrefectServer,
    count: int,
    wall: list[float],
    used: list[Usage],
    *,
    empty: Sequence[float] = (),
    used_empty: Sequence[Usage] = (),
    error: str = "",
) -> Crowd:
    return Crowd(
        form=form,
        database=server.database,
        builds=count,
        wall=wall,
        empty=list(empty),
        cpu=_each(used, count),
        cpu_empty=_each(used_empty, count),
        peak_rss={name: max(usage.peak_rss[name] for usage in used) for name in (used[0].peak_rss if used else ())},
        error=error,
    )


def _each(used: Sequence[Usage], count: int) -> dict[str, float]:
    """Processor time of one of so many, by who used it."""
    return {name: median(usage.cpu[name] for usage in used) / count for name in (used[0].cpu if used else ())}


def _said(crowd: Crowd) -> str:
    if crowd.error:
        return crowd.error
    text = f"{median(crowd.wall):.1f} s"
    if crowd.empty:
        text += f" (empty flows with the same sleeps {median(crowd.empty):.1f} s)"
    return f"{text}, {crowd.cpu['builds']:.2f} CPU s a build, {crowd.peak_rss['builds'] / 1e6:.0f} MB in all"
