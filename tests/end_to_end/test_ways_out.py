"""However a build ends in the middle of a provisioner, the region is empty soon after, by the region's own count."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.world import Prefect, Region, eventually, process, write_definition

pytestmark = pytest.mark.xdist_group("prefect")

SOON = 20
"""Seconds from the kill, or from the moment at which the state is set, until nothing may be left."""

SERVE = """
import os, sys
from flows.oxide_image.flow import build_oxide_image
if __name__ == "__main__":
    build_oxide_image.serve(name="served", pause_on_shutdown=False, print_starting_message=False)
"""


@dataclass
class Running:
    """A build in the middle of its provisioner."""

    run: str
    builder: int
    """The process that builds, as the mark on its instance tells."""
    group: int
    """The process group that a terminal's Ctrl-C reaches."""


Way = Callable[[Running, Prefect], None]


def interrupt(build: Running, _: Prefect) -> None:
    os.killpg(build.group, signal.SIGINT)


def interrupt_twice(build: Running, _: Prefect) -> None:
    os.killpg(build.group, signal.SIGINT)
    time.sleep(0.3)  # a person's second keystroke, while the first one's teardown is under way
    with suppress(ProcessLookupError):
        os.killpg(build.group, signal.SIGINT)


def terminate(build: Running, _: Prefect) -> None:
    os.kill(build.builder, signal.SIGTERM)


def kill(build: Running, _: Prefect) -> None:
    os.kill(build.builder, signal.SIGKILL)


def cancel(build: Running, prefect: Prefect) -> None:
    state = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
    prefect.request("POST", f"/flow_runs/{build.run}/set_state", state)


WAYS: list[Way] = [interrupt, interrupt_twice, terminate, kill, cancel]


@contextmanager
def by_command(definition: dict[str, Any], prefect: Prefect, directory: Path) -> Iterator[int]:
    build = write_definition(directory / "build.yaml", definition)
    argv = [sys.executable, "-m", "flows.oxide_image", str(build)]
    with process(argv, directory / "build.log", prefect.env) as child:
        yield child.pid


@contextmanager
def by_serving(definition: dict[str, Any], prefect: Prefect, directory: Path) -> Iterator[int]:
    with process([sys.executable, "-c", SERVE], directory / "serve.log", prefect.env) as child:
        eventually(lambda: _run(prefect, "served", definition), 60, f"served; see {directory / 'serve.log'}")
        yield child.pid


@contextmanager
def by_worker(definition: dict[str, Any], prefect: Prefect, directory: Path) -> Iterator[int]:
    argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "bakery"]
    with process(argv, directory / "worker.log", prefect.env) as child:
        assert _run(prefect, "by-hand", definition)
        yield child.pid


def _run(prefect: Prefect, deployment: str, definition: dict[str, Any]) -> bool:
    body = {"deployments": {"name": {"any_": [deployment]}}}
    found = prefect.request("POST", "/deployments/filter", body)
    if not found or (found[0]["status"] != "READY" and deployment == "served"):
        return False
    prefect.request("POST", f"/deployments/{found[0]['id']}/create_flow_run", {"parameters": {"build": definition}})
    return True


def builder_of(region: Region) -> tuple[str, int] | None:
    """The run and the process of the build whose script is running."""
    for instance in region.inventory().get("instances", ()):
        match = re.search(r" run=(\S+) .* host=\S+?:(\d+):", " " + instance["description"])
        if match and _script_runs(instance["id"]):
            return match[1], int(match[2])
    return None


def _script_runs(instance: str) -> bool:
    del instance
    done = subprocess.run(["pgrep", "--full", "sleep 9731"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("start", [by_command, by_serving, by_worker], ids=["command", "serve", "worker"])
def test_nothing_is_left_when_a_build_ends_by(
    start: Callable[..., Any], way: Way, cheap_region: Region, deployed: Prefect, tmp_path: Path
) -> None:
    definition = cheap_region.definition({"type": "shell", "name": "wait", "inline": ["echo begun", "sleep 9731"]})
    with start(definition, deployed, tmp_path) as group:
        run, builder = eventually(lambda: builder_of(cheap_region), 90, "the provisioner runs")
        way(Running(run, builder, group), deployed)
        moment = time.monotonic()
        eventually(lambda: not cheap_region.inventory(), SOON, "the region is empty")
        print(f"empty after {time.monotonic() - moment:.1f} s")
        if way is cancel:
            eventually(lambda: deployed.state(run) == "CANCELLED", 40, "the run is cancelled")
