"""Builds in a Python process that is running already, as under `serve` or a scheduler: the first form of a build.

`RunningProcess` is the benchmark's end; the module run as a program is the process itself. It reads jobs from its
standard input, one JSON object a line, and answers each with one line.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from benchmarks.programs import BenchmarkFailed, program


class Job(BaseModel):
    """What the process is to do: builds of a definition, or empty flows in their place."""

    count: int = 1
    """How many, side by side."""
    builder: str = ""
    definition: Path | None = None
    """None: empty flows."""
    sleeps: list[float] = []
    """For empty flows: how long each task sleeps, in seconds."""


class Step(BaseModel):
    """How long one step of a build took."""

    name: str
    seconds: float


class Done(BaseModel):
    """How a job went."""

    wall: float
    """Seconds from the start of the first flow to the end of the last."""
    cpu: float
    """Seconds of the process's own processor time."""
    steps: list[list[Step]] = []
    """Of each build."""
    error: str = ""


class RunningProcess:
    """A Python process with everything imported. One job at a time."""

    def __init__(self, child: asyncio.subprocess.Process, log: Path) -> None:
        self._child = child
        self._log = log

    @property
    def pid(self) -> int:
        """Its number; the reaper is below it."""
        return self._child.pid

    async def build(self, builder: str, definition: Path, *, count: int = 1, timeout: float) -> Done:
        """Builds, side by side."""
        return await self._do(Job(count=count, builder=builder, definition=definition), timeout)

    async def empty(self, sleeps: Sequence[float], *, count: int = 1, timeout: float) -> Done:
        """Empty flows, side by side."""
        return await self._do(Job(count=count, sleeps=list(sleeps)), timeout)

    async def _do(self, job: Job, timeout: float) -> Done:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(job.model_dump_json().encode() + b"\n")
        try:
            async with asyncio.timeout(timeout):
                answer = await self._child.stdout.readline()
        except TimeoutError:
            raise BenchmarkFailed(f"a job was not through after {timeout:g} s: see {self._log}") from None
        if not answer:
            raise BenchmarkFailed(f"the process that builds has ended: see {self._log}")
        done = Done.model_validate_json(answer)
        if done.error:
            raise BenchmarkFailed(f"a build failed: {done.error} (see {self._log})")
        return done


@asynccontextmanager
async def running_process(log: Path, env: Mapping[str, str]) -> AsyncIterator[RunningProcess]:
    """A process that builds, with one empty flow behind it."""
    async with program([sys.executable, "-m", "benchmarks.running_process"], log=log, env=env, piped=True) as child:
        process = RunningProcess(child, log)
        await process.empty([0.0], timeout=120)
        yield process


# -- the process itself ------------------------------------------------------------------------------------------------


async def _serve() -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        job = Job.model_validate_json(line)
        try:
            done = await _timed(job)
        except Exception as error:
            causes = error.exceptions if isinstance(error, ExceptionGroup) else [error]
            done = Done(wall=0, cpu=0, error="; ".join(str(cause) or type(cause).__name__ for cause in causes)[:4000])
        print(done.model_dump_json(), flush=True)


async def _timed(job: Job) -> Done:
    run = await _prepared(job)
    cpu = _cpu()
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run()) for _ in range(job.count)]
    wall = time.perf_counter() - started
    return Done(wall=wall, cpu=_cpu() - cpu, steps=[task.result() for task in tasks])


async def _prepared(job: Job) -> Any:
    if job.definition is None:
        from benchmarks.empty import empty_flow

        async def empty() -> list[Step]:
            await empty_flow(job.sleeps)
            return []

        return empty

    from flows.fleet.file import read_one

    model, flow = _builders()[job.builder]
    definition = read_one(job.definition, model=model).build

    async def build() -> list[Step]:
        artifact = await flow(definition)
        steps: list[Step] = TypeAdapter(list[Step]).validate_python(
            [{"name": step.name, "seconds": step.seconds} for step in artifact.steps]
        )
        return steps

    return build


def _builders() -> dict[str, tuple[Any, Any]]:
    from flows.outscale_image.definition import OutscaleImageDefinition
    from flows.outscale_image.flow import build_outscale_image
    from flows.oxide_image.definition import OxideImageDefinition
    from flows.oxide_image.flow import build_oxide_image

    return {
        OxideImageDefinition.builder: (OxideImageDefinition, build_oxide_image),
        OutscaleImageDefinition.builder: (OutscaleImageDefinition, build_outscale_image),
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    asyncio.run(_serve())
