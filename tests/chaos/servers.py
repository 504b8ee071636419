"""Prefect servers that go away for a while, and hosts and servers that know nothing of each other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.chaos.census import Census
from tests.chaos.kills import kill_build
from tests.chaos.lane import Build, Lane
from tests.chaos.points import Outcome, Point
from tests.chaos.scenarios import cleaned, judged, outcome, scenario
from tests.chaos.supervised import server_env
from tests.end_to_end.world import Prefect, eventually, prefect_server

ANOTHER_HOST = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
"""As a second container on the same machine: another PID namespace."""


_PAUSE = 12
"""Seconds between two reclaims."""


def _waits(lane: Lane, seconds: float) -> dict[str, object]:
    """A provisioner that takes a while, with a command line that no other lane's has."""
    return {"type": "shell", "name": "waits", "inline": [f"sleep {seconds:g}.{urlsplit(lane.proxy.url).port}"]}


def _is_there(build: Build) -> bool:
    """Whether the build has come to the provisioner that waits."""
    assert build.child.poll() is None, build.said
    return "provision: secret" in build.said


def _env(lane: Lane, server: Prefect | None, **more: str) -> dict[str, str]:
    """Of a program of ours that uses a server, or none, and knows that server by its own name."""
    env = {name: value for name, value in server_env(lane).items() if name != "PREFECT_API_URL"}
    return {**env, **({"PREFECT_API_URL": server.api} if server else {}), **more}


def reclaim_elsewhere(lane: Lane, env: Mapping[str, str]) -> str:
    """Run reclaim in another container, and return what it says."""
    reclaim = lane.start("flows.reclaim", str(lane.logs / f"{lane.number}.yaml"), env=env, prefix=ANOTHER_HOST)
    reclaim.wait()
    return reclaim.said


@contextmanager
def _own_server(lane: Lane, port: int | None = None) -> Iterator[Prefect]:
    directory = lane.directory / "own-server"
    directory.mkdir(exist_ok=True)
    with lane.bystanding(), prefect_server(directory, port) as server:
        lane.settle_processes()
        yield server


@scenario
def server_away(lane: Lane, point: Point, before: Census) -> Outcome:
    """The build's server is stopped in its middle; reclaim is active elsewhere, and on the server when it is back."""
    seconds = float(point.parameters["seconds"])
    window = {"IMAGE_BAKERY_HEARTBEAT_WINDOW": "60", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    what = f"the Prefect server is away for {seconds:g} s"
    with _own_server(lane) as own:
        port = urlsplit(own.api).port
        env = _env(lane, own, **window)
        build = lane.start_build(lane.definition(_waits(lane, seconds + 60)), env)
        eventually(lambda: _is_there(build), 120, "the build is in its provisioner")
    gone = time.monotonic()
    while time.monotonic() < gone + seconds:
        reclaim_elsewhere(lane, _env(lane, lane.prefect, **window))
        time.sleep(_PAUSE)
    with _own_server(lane, port) as own:
        while build.child.poll() is None and time.monotonic() < gone + seconds + 240:
            reclaim_elsewhere(lane, env)
            time.sleep(_PAUSE)
        code = build.wait(1)
        result = judged(lane, build, code, outcome(point, "", what), before)
    _has_to_live(lane, result, before, build)
    return result


def _has_to_live(lane: Lane, result: Outcome, before: Census, build: Build) -> None:
    if len(lane.census().artifacts_since(before)) != 1:
        result.wrong.append(f"the live build did not survive: {build.said[-600:]}")


@scenario
def another_container(lane: Lane, point: Point, before: Census) -> Outcome:
    """Reclaim in another container, with the same server, another one or none, leaves a live build alone."""
    server = {"same": lane.prefect, "none": None}.get(point.parameters["server"])
    build = lane.start_build(lane.definition(_waits(lane, 25)), server_env(lane))
    eventually(lambda: _is_there(build), 120, "the build is in its provisioner")
    if point.parameters["server"] == "another":
        with _own_server(lane) as another:
            reclaim_elsewhere(lane, _env(lane, another))
    else:
        for _ in range(2):
            reclaim_elsewhere(lane, _env(lane, server))
    code = build.wait()
    what = f"reclaim in another container, with {point.parameters['server']} server"
    result = judged(lane, build, code, outcome(point, "", what), before)
    _has_to_live(lane, result, before, build)
    return result


@scenario
def dead_container(lane: Lane, point: Point, before: Census) -> Outcome:
    """A build dies with its whole container; reclaim in another one takes it for dead after the heartbeat window."""
    window = 40.0
    env = {**server_env(lane), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    build = lane.start(
        f"flows.{lane.region.package}",
        str(lane.write(lane.definition(_waits(lane, 300)))),
        env=env,
        prefix=ANOTHER_HOST,
    )
    eventually(lambda: _is_there(build), 120, "the build is in its provisioner")
    kill_build(build, with_reaper=True)
    build.wait()
    began = time.monotonic()
    there = {"IMAGE_BAKERY_HEARTBEAT_WINDOW": f"{window:g}"}
    result = outcome(point, "killed", "a whole container dies; reclaim runs in another one")
    while lane.census().since(before) and time.monotonic() < began + window + 60:
        reclaim_elsewhere(lane, _env(lane, lane.prefect, **there))
        time.sleep(3)
    return cleaned(lane, result, before, began)


@scenario
def a_live_neighbour(lane: Lane, point: Point, before: Census) -> Outcome:
    """A build of a second Prefect server, in another container, lives on while one here dies and is reclaimed."""
    with _own_server(lane) as another:
        neighbour_definition = lane.definition(
            _waits(lane, 40), **lane.artifact_named(f"chaos-{lane.number}-neighbour")
        )
        neighbour = lane.start(
            f"flows.{lane.region.package}",
            str(lane.write(neighbour_definition)),
            env=_env(lane, another),
            prefix=ANOTHER_HOST,
        )
        eventually(lambda: _is_there(neighbour), 120, "the neighbour is in its provisioner")
        lane.number += 1
        dying = lane.start_build(lane.definition(_waits(lane, 300)), server_env(lane))
        eventually(lambda: _is_there(dying), 120, "the build is in its provisioner")
        kill_build(dying, with_reaper=not point.parameters["reaper"])
        dying.wait()
        said = reclaim_elsewhere(lane, _env(lane, lane.prefect))
        reclaim = lane.start("flows.reclaim", str(lane.logs / f"{lane.number}.yaml"), env=_env(lane, lane.prefect))
        if reclaim.wait() != 0:
            said = reclaim.said
        code = neighbour.wait()
        result = judged(lane, neighbour, code, outcome(point, "", "a neighbour's build lives on"), before)
    if result.ended != "succeeded":
        result.wrong.append(f"the neighbour's build did not survive; reclaim said: {said[-300:]}")
    return result
