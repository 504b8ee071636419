"""From an event to a build: what the server's automation, a worker and the start of its process take."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import httpx
import yaml

from benchmarks.prefect_server import PrefectServer
from benchmarks.programs import BenchmarkFailed, eventually, finished, program
from benchmarks.regions import OxideRegion
from benchmarks.results import Reaction

_DEPLOYMENT = "build-oxide-image/by-hand"
_SOURCE = "benchmark.source"
_EVENT = "image.source.updated"
_TIMEOUT = 300


async def reactions(
    region: OxideRegion,
    definition: Path,
    server: PrefectServer,
    directory: Path,
    rounds: int,
    say: Callable[[str], None],
) -> Reaction:
    """Send an event that an automation answers with a build, and read off the run when what happened.

    Server and worker have Prefect's defaults: the worker looks for runs every ten seconds.
    """
    say("From an event to a build's first step")
    await finished(["tools/deploy"], log=directory / "deploy.log", env=server.env, timeout=_TIMEOUT)
    env = {name: value for name, value in server.env.items() if name != "PREFECT_WORKER_QUERY_SECONDS"}
    argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "bakery"]
    log = directory / "worker.log"
    found = Reaction()
    async with (
        program(argv, log=log, env=env),
        httpx.AsyncClient(base_url=f"{server.api}/", trust_env=False, timeout=60) as api,
    ):
        await _automate(api, {"build": yaml.safe_load(definition.read_text(encoding="utf-8"))})
        for number in range(1, rounds + 1):
            await _react(api, found, log)
            await region.tidy()
            say(
                f"  round {number} of {rounds}: run after {found.created[-1]:.1f} s, started after "
                f"{found.started[-1]:.1f} s, first step after {found.first_step[-1]:.1f} s"
            )
    say(f"  medians: {median(found.created):.1f}, {median(found.started):.1f}, {median(found.first_step):.1f} s")
    return found


async def _automate(api: httpx.AsyncClient, parameters: Mapping[str, Any]) -> None:
    deployment = (await api.get(f"deployments/name/{_DEPLOYMENT}")).raise_for_status().json()["id"]
    automation = {
        "name": "benchmark",
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "match": {"prefect.resource.id": _SOURCE},
            "expect": [_EVENT],
            "threshold": 1,
            "within": 0,
        },
        "actions": [
            {"type": "run-deployment", "source": "selected", "deployment_id": deployment, "parameters": parameters}
        ],
    }
    (await api.post("automations/", json=automation)).raise_for_status()


async def _react(api: httpx.AsyncClient, found: Reaction, log: Path) -> None:
    before = {run["id"] for run in await _runs(api)}
    occurred = datetime.now(UTC)
    event = {
        "id": str(uuid4()),
        "event": _EVENT,
        "occurred": occurred.isoformat(),
        "resource": {"prefect.resource.id": _SOURCE},
    }
    (await api.post("events", json=[event])).raise_for_status()

    async def ended() -> dict[str, Any] | None:
        new = [run for run in await _runs(api) if run["id"] not in before]
        return new[0] if new and new[0]["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

    run = await eventually(ended, _TIMEOUT, f"the run of an event has ended: see {log}")
    if run["state_type"] != "COMPLETED":
        raise BenchmarkFailed(f"the run of an event ended {run['state_type']}: see {log}")
    body = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    steps = (await api.post("task_runs/filter", json=body)).raise_for_status().json()

    def after(moment: str) -> float:
        return (datetime.fromisoformat(moment) - occurred).total_seconds()

    found.created.append(after(run["created"]))
    found.started.append(after(run["start_time"]))
    found.first_step.append(min(after(step["start_time"]) for step in steps if step["start_time"]))


async def _runs(api: httpx.AsyncClient) -> list[dict[str, Any]]:
    body = {"deployments": {"name": {"any_": [_DEPLOYMENT.partition("/")[2]]}}, "limit": 200}
    body |= {"flows": {"name": {"any_": [_DEPLOYMENT.partition("/")[0]]}}}
    found: list[dict[str, Any]] = (await api.post("flow_runs/filter", json=body)).raise_for_status().json()
    return found
