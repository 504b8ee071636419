"""Builds from the command line that are killed: at a request, in a provisioner, at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.census import Census
from tests.chaos.lane import Build, Lane, kill, reapers_of
from tests.chaos.points import Outcome, Point
from tests.chaos.proxy import Trap, When
from tests.chaos.scenarios import SHELL, cleaned, judged, outcome, reclaim_here, scenario
from tests.end_to_end.world import eventually

_BLOB_MIB = 48


def kill_build(build: Build, *, with_reaper: bool) -> None:
    """Kill a build; its reaper first where that is to go, too."""
    for reaper in reapers_of(build.pid) if with_reaper else []:
        kill(reaper)
    kill(build.pid)


def after_the_kill(lane: Lane, point: Point, before: Census, build: Build, what: str) -> Outcome:
    """Start what an operator would have running, if the reaper is gone, and see that nothing is left."""
    if point.parameters.get("reaper", True):
        return cleaned(lane, outcome(point, "killed", what), before, build.ended_at)
    result = outcome(point, "killed", f"{what}, and the reaper's")
    if point.parameters.get("next") == "build":
        return _next_build(lane, result, before)
    return cleaned(lane, result, before, reclaim_here(lane, result))


def _next_build(lane: Lane, result: Outcome, before: Census) -> Outcome:
    """The next build of the same host looks for what the dead one left."""
    lane.proxy.set(None)
    began = time.monotonic()
    build = lane.start_build(lane.definition(SHELL, **lane.artifact_named(f"chaos-{lane.number}-next")))
    if (code := build.wait()) != 0:
        result.wrong.append(f"the next build ended with code {code}: {build.said[-300:]}")
    return cleaned(lane, result, before, began)


@scenario
def kill_at_request(lane: Lane, point: Point, before: Census) -> Outcome:
    """Kill -9 before a request is passed on, or after the region carried it out."""
    parameters = point.parameters
    label, nth, when = parameters["label"], int(parameters["nth"]), When(parameters["when"])
    builds: list[Build] = []
    trap = Trap(label, nth, when, lambda: kill_build(builds[0], with_reaper=not parameters.get("reaper", True)))
    lane.proxy.set(trap)
    builds.append(lane.start_build(lane.definition(SHELL)))
    code = builds[0].wait()
    what = f"kill -9 {when} {label}, seen for the {nth}. time"
    if trap.sprung.is_set():
        return after_the_kill(lane, point, before, builds[0], what)
    missed = judged(lane, builds[0], code, outcome(point, "", f"{what}: {lane.proxy.why_not(trap)}"), before)
    return missed.model_copy(update={"ended": "not reached"})


PROVISIONERS: dict[str, Callable[[Lane], dict[str, Any]]] = {
    "shell": lambda _: {"type": "shell", "inline": ["sleep 20"]},
    "file": lambda lane: {"type": "file", "source": str(_blob(lane)), "destination": "/blob"},
    "shell-local": lambda _: {"type": "shell-local", "inline": ["sleep 20"]},
    "sleep": lambda _: {"type": "sleep", "duration": "20s"},
    "reboot": lambda _: {"type": "reboot", "reboot_command": "sleep 20"},
    "generalize": lambda _: {"type": "generalize"},
}


def _blob(lane: Lane) -> Path:
    blob = lane.directory / "blob"
    if not blob.exists():
        with blob.open("wb") as file:
            file.truncate(_BLOB_MIB << 20)
    return blob


@scenario
def kill_in_provisioner(lane: Lane, point: Point, before: Census) -> Outcome:
    """Kill -9 some time after a provisioner began."""
    name, delay = point.parameters["provisioner"], float(point.parameters["delay"])
    build = lane.start_build(lane.definition(PROVISIONERS[name](lane)))
    # The first provisioner has ended: the next one begins.
    eventually(lambda: "provision: secret" in build.said or build.child.poll() is not None, 120, "it is provisioned")
    return _killed_later(lane, point, before, build, delay, f"kill -9 in provisioner {name} after {delay:g} s")


@scenario
def kill_at_moment(lane: Lane, point: Point, before: Census) -> Outcome:
    """Kill -9 some time after the build was started."""
    delay = float(point.parameters["delay"])
    build = lane.start_build(lane.definition(SHELL))
    return _killed_later(lane, point, before, build, delay, f"kill -9 after {delay:.2f} s")


def _killed_later(lane: Lane, point: Point, before: Census, build: Build, delay: float, what: str) -> Outcome:
    time.sleep(delay)
    missed = build.child.poll() is not None
    kill_build(build, with_reaper=not point.parameters.get("reaper", True))
    code = build.wait()
    if missed:
        return judged(lane, build, code, outcome(point, "", what), before).model_copy(update={"ended": "not reached"})
    return after_the_kill(lane, point, before, build, what)
