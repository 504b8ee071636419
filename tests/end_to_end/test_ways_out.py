"""However a build ends in the middle of a provisioner, the region is empty soon after, by the region's own count."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.world import (
    OutscaleRegion,
    OxideRegion,
    Prefect,
    Region,
    eventually,
    is_alive,
    process,
    write_definition,
)

SOON = 60
"""Seconds from the build's end, or from the moment at which the state is set, until nothing may be left: what is
promised for the same host. How many it took is printed."""

SERVE = """
from flows.{package}.flow import build_{package}
if __name__ == "__main__":
    build_{package}.serve(name="served", pause_on_shutdown=False, print_starting_message=False)
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


def stop_worker(build: Running, _: Prefect) -> None:
    os.kill(build.group, signal.SIGTERM)  # it leads its group
    eventually(lambda: not is_alive(build.builder), 60, "the worker has killed its build")


def cancel(build: Running, prefect: Prefect) -> None:
    state = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
    prefect.request("POST", f"/flow_runs/{build.run}/set_state", state)


WAYS: list[Way] = [interrupt, interrupt_twice, terminate, kill, cancel]


@contextmanager
def by_command(definition: dict[str, Any], prefect: Prefect, region: Region, directory: Path) -> Iterator[int]:
    build = write_definition(directory / "build.yaml", definition)
    argv = [sys.executable, "-m", f"flows.{region.package}", str(build)]
    with process(argv, directory / "build.log", {**prefect.env, **region.env}) as child:
        yield child.pid


@contextmanager
def by_serving(definition: dict[str, Any], prefect: Prefect, region: Region, directory: Path) -> Iterator[int]:
    program = SERVE.format(package=region.package)
    with process([sys.executable, "-c", program], directory / "serve.log", {**prefect.env, **region.env}) as child:
        eventually(lambda: _run(prefect, region, "served", definition), 60, f"served; see {directory / 'serve.log'}")
        yield child.pid


@contextmanager
def by_worker(definition: dict[str, Any], prefect: Prefect, region: Region, directory: Path) -> Iterator[int]:
    argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "bakery"]
    with process(argv, directory / "worker.log", {**prefect.env, **region.env}) as child:
        assert _run(prefect, region, "by-hand", definition)
        yield child.pid


def _run(prefect: Prefect, region: Region, deployment: str, definition: dict[str, Any]) -> bool:
    flow = f"build-{region.package.replace('_', '-')}"
    body = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [deployment]}}}
    found = prefect.request("POST", "/deployments/filter", body)
    if not found or (found[0]["status"] != "READY" and deployment == "served"):
        return False
    prefect.request("POST", f"/deployments/{found[0]['id']}/create_flow_run", {"parameters": {"build": definition}})
    return True


def _end(start: Callable[..., Any], way: Way, region: Region, prefect: Prefect, directory: Path) -> None:
    stopped = f"! pgrep --full '^{region.script}$' && touch {directory}/stopped"
    definition = region.definition(
        {"type": "shell", "name": "wait", "inline": ["echo begun", region.script]},
        error_cleanup_provisioner={"type": "shell-local", "inline": [stopped]},
    )
    with start(definition, prefect, region, directory) as group:
        run, builder = eventually(region.builder, 90, "the provisioner runs")
        way(Running(run, builder, group), prefect)
        moment = time.monotonic()
        eventually(lambda: not region.made(), SOON, "nothing is left")
        print(f"nothing was left {time.monotonic() - moment:.1f} s after {way.__name__}")
        eventually(lambda: not is_alive(builder), 40, "the process that built ends")
        if way is cancel:
            eventually(lambda: prefect.state(run) == "CANCELLED", 40, "the run is cancelled")
            assert (directory / "stopped").exists(), "the script was stopped, and the error clean-up ran after it"
        else:
            eventually(lambda: prefect.state(run) in ("CRASHED", "FAILED"), 100, "the server knows that it ended")


every_start = pytest.mark.parametrize("start", [by_command, by_serving, by_worker], ids=["command", "serve", "worker"])
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@pytest.mark.timeout(240)
@pytest.mark.xdist_group("prefect")
@every_start
@every_way
def test_nothing_is_left_on_oxide_when_a_build_ends_by(
    start: Callable[..., Any], way: Way, cheap_region: OxideRegion, deployed: Prefect, tmp_path: Path
) -> None:
    _end(start, way, cheap_region, deployed, tmp_path)


@pytest.mark.timeout(240)
@pytest.mark.xdist_group("prefect-outscale")
@every_start
@every_way
def test_nothing_is_left_on_outscale_when_a_build_ends_by(
    start: Callable[..., Any], way: Way, outscale: OutscaleRegion, deployed: Prefect, tmp_path: Path
) -> None:
    _end(start, way, outscale, deployed, tmp_path)


@pytest.mark.timeout(240)
@pytest.mark.xdist_group("prefect")
def test_builds_of_a_worker_that_is_stopped_are_ended_clean(
    cheap_region: OxideRegion, deployed: Prefect, tmp_path: Path
) -> None:
    _end(by_worker, stop_worker, cheap_region, deployed, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.xdist_group("prefect")
def test_a_cancelled_build_is_torn_down_though_its_worker_kills_it_meanwhile(
    cheap_region: OxideRegion, deployed: Prefect, tmp_path: Path
) -> None:
    """A worker gives a cancelled run 30 s; this teardown takes twice as long."""
    cheap_region.fault(operation="instance_delete", kind="latency", seconds=45, count=3)
    definition = cheap_region.definition({"type": "shell", "inline": [cheap_region.script]})
    with by_worker(definition, deployed, cheap_region, tmp_path) as group:
        run, builder = eventually(cheap_region.builder, 90, "the provisioner runs")
        moment = time.monotonic()
        cancel(Running(run, builder, group), deployed)
        eventually(lambda: not is_alive(builder), 60, "the worker has killed the process")
        assert cheap_region.made()
        eventually(lambda: not cheap_region.made(), 120, "nothing is left")
        assert time.monotonic() - moment > 60
        eventually(lambda: deployed.state(run) == "CANCELLED", 120, "the run is cancelled")
        eventually(lambda: "The reaper removed" in deployed.log(run), 60, "the reaper says that it is through")
