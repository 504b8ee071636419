"""Builds that a served flow or a process worker runs: their process is killed, or what runs them, or all of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.chaos.census import Census, descendants, is_zombie, parent, pids
from tests.chaos.lane import CLEAN_WITHIN, Build, Lane, kill, reapers_of
from tests.chaos.points import Outcome, Point
from tests.chaos.proxy import Trap, When
from tests.chaos.scenarios import SHELL, cleaned, outcome, scenario
from tests.end_to_end.test_ways_out import SERVE
from tests.end_to_end.world import ROOT, OutscaleRegion, eventually

FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_START = 90
_STATE_WITHIN = 90


class Supervisor:
    """A worker or a served flow, started as an operator does, and again when it was killed."""

    def __init__(self, lane: Lane, how: str) -> None:
        self.lane = lane
        self.how = how
        self.process: Build | None = None

    @classmethod
    def of(cls, lane: Lane, how: str) -> Supervisor:
        """The lane's one, with the credentials on the server, and for a worker with everything deployed."""
        _once(lane, _save_block)
        if how == "worker":
            _once(lane, deploy)
        supervisors: dict[str, Supervisor] = lane.kept.setdefault("supervisors", {})
        supervisor = supervisors.setdefault(how, cls(lane, how))
        supervisor.ensure()
        return supervisor

    def ensure(self) -> None:
        """Start it unless it runs."""
        if self.process is not None and self.process.child.poll() is None:
            return
        env = _env(self.lane)
        if self.how == "worker":
            self.process = self.lane.start("prefect", "worker", "start", "--pool", "bakery", env=env)
        else:
            self.process = self.lane.start_program(SERVE.format(package=self.lane.region.package), env=env)
        self.lane.alone.add(self.process.pid)
        if self.how == "served":
            eventually(lambda: self._deployment()["status"] == "READY", _START, "the flow is served")

    def _deployment(self, name: str = "") -> dict[str, Any]:
        return deployment(self.lane, name or ("by-hand" if self.how == "worker" else "served"))

    def create_run(self, definition: Mapping[str, Any]) -> str:
        """Have a build run; the flow run's id."""
        self.lane.write(definition)
        return create_run(self.lane, self._deployment(), {"build": dict(definition)})

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process is not None
        return self.process.pid


def server_env(lane: Lane) -> dict[str, str]:
    """Of what a lasting server's users run: the server has a name of its own."""
    return {name: value for name, value in lane.env.items() if name != "IMAGE_BAKERY_SERVER"}


def _env(lane: Lane) -> dict[str, str]:
    """Of a worker or a served flow, which has no credentials of its own."""
    return {name: value for name, value in server_env(lane).items() if not name.startswith("OSC_")}


def _once(lane: Lane, prepare: Callable[[Lane], None]) -> None:
    """Prepare a lane's server, unless that is done."""
    done: set[str] = lane.kept.setdefault("prepared", set())
    if prepare.__name__ not in done:
        prepare(lane)
        done.add(prepare.__name__)


def deploy(lane: Lane) -> None:
    """Register block types, pool and deployments; nothing is scheduled, so that each scenario is by itself."""
    subprocess.run(
        ["tools/deploy"], env=dict(lane.prefect.env), cwd=ROOT, check=True, timeout=600, stdout=subprocess.DEVNULL
    )
    for automation in lane.prefect.request("POST", "/automations/filter", {}):
        lane.prefect.request("DELETE", f"/automations/{automation['id']}")
    for found in lane.prefect.request("POST", "/deployments/filter", {}):
        lane.prefect.request("PATCH", f"/deployments/{found['id']}", {"paused": True})


_SAVE_BLOCK = """
import json, sys
from blocks.{cloud}.credentials import {kind}
{kind}(**json.load(sys.stdin)).save("place", overwrite=True)
"""


def _save_block(lane: Lane) -> None:
    """The credentials, as a block on the server: what builds, hooks and reclaim find by its name."""
    if isinstance(lane.region, OutscaleRegion):
        env = lane.env
        program = _SAVE_BLOCK.format(cloud="outscale", kind="OutscaleCredentials")
        given = {
            "access_key": env["OSC_ACCESS_KEY"],
            "secret_key": env["OSC_SECRET_KEY"],
            "region": env["OSC_REGION"],
            "endpoint": lane.api_through_proxy,
        }
    else:
        program = _SAVE_BLOCK.format(cloud="oxide", kind="OxideCredentials")
        token = Path(lane.region.ready["token_file"]).read_text(encoding="utf-8").strip()
        given = {"host": lane.api_through_proxy, "token": token}
    subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(given),
        env=dict(lane.prefect.env),
        cwd=ROOT,
        check=True,
        text=True,
        timeout=120,
    )


def with_block(lane: Lane, *provisioners: Mapping[str, Any]) -> dict[str, Any]:
    """A build whose credentials are a block."""
    definition = lane.definition(*provisioners, credentials={"block": "place"})
    return {name: value for name, value in definition.items() if name not in ("host", "token")}


def deployment(lane: Lane, name: str, flow: str = "") -> dict[str, Any]:
    """A deployment of the lane's builder, or of another flow."""
    flow = flow or f"build-{lane.region.package.replace('_', '-')}"
    body = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [name]}}}
    found = lane.prefect.request("POST", "/deployments/filter", body)
    return dict(found[0]) if found else {"status": "none"}


def create_run(lane: Lane, of: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """A run of a deployment."""
    made = lane.prefect.request(
        "POST",
        f"/deployments/{of['id']}/create_flow_run",
        {"parameters": parameters, "state": {"type": "SCHEDULED", "name": "Scheduled"}},
    )
    return str(made["id"])


def builder_of(supervisor: Supervisor) -> int | None:
    """The process that builds: the one whose reaper runs. Prefect may start others on the way to it."""
    return next((parent(reaper) for reaper in reapers_of(supervisor.pid)), None)


def kill_victims(supervisor: Supervisor, victim: str, *, with_reaper: bool) -> int:
    """Kill the run's process, what runs it, or everything; returns the process that builds, or built."""
    builder = builder_of(supervisor)
    assert builder is not None
    reapers = reapers_of(supervisor.pid)
    below = descendants([supervisor.pid]) - {supervisor.pid, *reapers}
    victims = {"run": [builder], "supervisor": [supervisor.pid], "group": [supervisor.pid, *below]}[victim]
    for pid in [*(reapers if with_reaper else []), *victims]:
        kill(pid)
    return builder


@scenario
def kill_supervised(lane: Lane, point: Point, before: Census) -> Outcome:
    """Kill -9 at a request of a build that a served flow or a worker runs."""
    told = point.parameters
    how, victim, with_reaper = told["how"], told["victim"], not told.get("reaper", True)
    supervisor = Supervisor.of(lane, how)
    builders: list[int] = []
    trap = Trap(
        told["label"],
        int(told["nth"]),
        When(told["when"]),
        lambda: builders.append(kill_victims(supervisor, victim, with_reaper=with_reaper)),
    )
    lane.proxy.set(trap)
    run = supervisor.create_run(with_block(lane, SHELL))
    eventually(
        lambda: trap.sprung.is_set() or lane.prefect.state(run) in FINAL, 180, f"the build of run {run} gets there"
    )
    what = f"{how}: kill -9 of {victim}{' and the reaper' if with_reaper else ''} {told['when']} {told['label']}"
    if not trap.sprung.is_set():
        state, why_not = lane.prefect.state(run), lane.proxy.why_not(trap)
        result = outcome(point, "not reached", f"{what}: the run ended {state}; {why_not}")
        if state != "COMPLETED" or trap.failed:
            result.wrong.append(f"a build that nobody killed ended {state}; {why_not}; {lane.prefect.log(run)[-600:]}")
        return cleaned(lane, result, before, time.monotonic())
    result = outcome(point, "killed", what)
    began = time.monotonic()
    if victim == "supervisor":
        _let_it_end(lane, run, builders[0], result)
        began = time.monotonic()
    if victim == "group" and with_reaper:
        began = _reclaim_by_worker(lane, result)
    cleaned(lane, result, before, began)
    if victim != "supervisor":
        _see_its_state(lane, run, result)
    return result


def _let_it_end(lane: Lane, run: str, builder: int, result: Outcome) -> None:
    """A build whose supervisor is gone goes on to its end, or ends; it does not hang."""
    with suppress(AssertionError):
        eventually(lambda: is_zombie(builder), 120, "the build ends")
    if not is_zombie(builder):
        result.wrong.append("its build goes on for two minutes after its supervisor was killed")
        kill(builder)
    result.what += f" (the run ended {lane.prefect.state(run)})"


def _see_its_state(lane: Lane, run: str, result: Outcome) -> None:
    """Prefect calls no dead run running."""
    end = time.monotonic() + _STATE_WITHIN
    while (state := lane.prefect.state(run)) not in FINAL and time.monotonic() < end:
        time.sleep(0.5)
    if state not in FINAL:
        result.wrong.append(f"{_STATE_WITHIN} s after the kill Prefect still says {state}")


def _reclaim_by_worker(lane: Lane, result: Outcome) -> float:
    """The worker starts again, as its service does, and the next scheduled reclaim comes."""
    lane.proxy.set(None)
    Supervisor.of(lane, "worker")
    began = time.monotonic()
    run = create_run(lane, deployment(lane, "reclaim", "reclaim"), {})
    with suppress(AssertionError):
        eventually(lambda: lane.prefect.state(run) in FINAL, CLEAN_WITHIN * 2, "reclaim is through")
    if (state := lane.prefect.state(run)) != "COMPLETED":
        result.wrong.append(f"reclaim ended {state}: {lane.prefect.log(run)[-300:]}")
    return began


@scenario
def quick_retry(lane: Lane, point: Point, before: Census) -> Outcome:
    """A run is retried while the teardown of its killed first attempt still goes on: the second one loses nothing."""
    supervisor = Supervisor.of(lane, "worker")
    slow = {"operation": "instance_stop" if lane.builder == "oxide" else "UnlinkVolume", "kind": "latency"}
    lane.control("POST", "/faults", {**slow, "seconds": 10, "count": 1})
    marker = lane.temporary / "first-attempt"
    # Only the first attempt is slow; the marker tells that it is there.
    first = {
        "type": "shell-local",
        "inline": [f"test -e {marker} || {{ touch {marker}; sleep 60; }}"],
    }
    run = supervisor.create_run(with_block(lane, first))
    eventually(marker.exists, 120, "the first attempt is in its provisioner")
    first_builder = builder_of(supervisor)
    assert first_builder is not None
    kill(first_builder)
    state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "retried at once"}
    # Nobody retries a run that Prefect still calls running: its worker would then say that it crashed.
    with suppress(AssertionError):
        eventually(lambda: lane.prefect.state(run) in FINAL, 60, "Prefect knows that the first attempt is dead")
    lane.prefect.request("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})
    what = "a killed run is retried while its first attempt is torn down"
    result = outcome(point, "", what)
    with suppress(AssertionError):
        eventually(lambda: _second_is_through(lane, run), 150, "the second attempt is through")
    marker.unlink()
    began = time.monotonic()
    result.ended = "succeeded" if lane.prefect.state(run) == "COMPLETED" else "failed"
    cleaned(lane, result, before, began)
    made = len(lane.census().artifacts_since(before))
    if (result.ended, made) != ("succeeded", 1):
        result.wrong.append(
            f"the second attempt ended {lane.prefect.state(run)}, with {made} images: {lane.prefect.log(run)[-600:]}"
        )
    return result


def _second_is_through(lane: Lane, run: str) -> bool:
    now = lane.prefect.request("GET", f"/flow_runs/{run}")
    return now["run_count"] > 1 and now["state_type"] in FINAL and not _is_run(run)


def _is_run(run: str) -> bool:
    """Whether there is a process that a worker started for a run: it may not build yet, or no more."""
    for pid in pids():
        with suppress(OSError):
            if f"PREFECT__FLOW_RUN_ID={run}".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                return True
    return False


@scenario
def cancelled(lane: Lane, point: Point, before: Census) -> Outcome:
    """A run is cancelled in its provisioner, however it was started."""
    how = point.parameters["how"]
    waits = {"type": "shell", "inline": [lane.region.script]}
    build: Build | None = None
    if how == "command":
        build = lane.start_build(lane.definition(waits))
        run = eventually(build.run, 120, "the run is there")
    else:
        run = Supervisor.of(lane, how).create_run(with_block(lane, waits))
    eventually(lane.region.script_processes, 120, "the provisioner runs")
    state = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
    lane.prefect.request("POST", f"/flow_runs/{run}/set_state", state)
    result = cleaned(lane, outcome(point, "killed", f"{how}: cancelled"), before, time.monotonic())
    if build is not None:
        build.wait()
    with suppress(AssertionError):
        eventually(lambda: lane.prefect.state(run) == "CANCELLED", 60, "")
    if (now := lane.prefect.state(run)) != "CANCELLED":
        result.wrong.append(f"a cancelled run is {now}")
    return result
