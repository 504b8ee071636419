"""The floor: how long the cloud, the guest and the provisioners need when nothing is around them."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.programs import clean_environment, finished
from benchmarks.regions import Region
from benchmarks.running_process import Step

_SCRIPTS = Path(__file__).with_name("floors")
_PROVISIONERS = {
    "shell-1": "#!/bin/sh -e\necho one >/made\n",
    "file-2": "a file\n",
    "shell-3": "#!/bin/sh -e\ncat /made /root/file\n",
}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Floor:
    """One run of a floor's script."""

    wall: float
    """Seconds."""
    steps: list[Step]


def write_provisioners(directory: Path) -> list[dict[str, Any]]:
    """Write what is provisioned, two tiny scripts and a file, and return that as a definition has it."""
    directory.mkdir()
    for name, text in _PROVISIONERS.items():
        (directory / name).write_text(text, encoding="utf-8")
    return [
        {"type": "shell", "script": str(directory / "shell-1")},
        {"type": "file", "source": str(directory / "file-2"), "destination": "/root/file"},
        {"type": "shell", "script": str(directory / "shell-3")},
    ]


async def floor(
    script: str, region: Region, provisioners: Path, log: Path, *, timeout: float, **variables: str
) -> Floor:
    """Run a floor's script.

    Raises:
        BenchmarkFailed: it failed.
    """
    clock = asyncio.get_running_loop().time
    name = f"floor-{os.getpid()}-{next(_numbers)}"
    async with _directory() as work:
        env = clean_environment(
            **await region.floor_env(), **variables, NAME=name, WORK=str(work), PROVISIONERS=str(provisioners)
        )
        started = clock()
        said = await finished([str(_SCRIPTS / script)], log=log, env=env, timeout=timeout)
        wall = clock() - started
    return Floor(wall, _steps(said.decode(errors="replace")))


@asynccontextmanager
async def _directory() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bakery-floor-", dir="/tmp") as name:
        yield Path(name)


def _steps(said: str) -> list[Step]:
    begun: list[tuple[float, str]] = []
    for line in said.splitlines():
        time, _, name = line.partition(" ")
        if name and time.replace(".", "", 1).isdigit():
            begun.append((float(time), name))
    return [Step(name=name, seconds=after - time) for (time, name), (after, _) in itertools.pairwise(begun)]


def by_name(steps: list[Step]) -> dict[str, float]:
    """Seconds by step; a step that was taken more than once counts as a whole."""
    total: dict[str, float] = {}
    for step in steps:
        total[step.name] = total.get(step.name, 0.0) + step.seconds
    return total
