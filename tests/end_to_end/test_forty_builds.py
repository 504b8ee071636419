"""A fleet beyond one process: PostgreSQL, two workers, forty queued builds, a limit, and a worker that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.prefect_server import prefect_server
from benchmarks.programs import finished, program
from tests.end_to_end.world import OxideRegion, write_definition

BUILDS = 40
AT_ONCE = 6
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@pytest.mark.slow
@pytest.mark.timeout(2400)
async def test_forty_queued_builds_on_two_workers_of_which_one_is_killed(
    cheap_region: OxideRegion, tmp_path: Path
) -> None:
    definition = cheap_region.definition(
        {"type": "shell", "inline": ["echo $BAKERY_RUN_ID"]},
        artifact_name="image-{{run_id}}",
        deployment={"work_queue": {"name": "project", "concurrency_limit": AT_ONCE}, "concurrency_limit": AT_ONCE},
    )
    (tmp_path / "fleet").mkdir()
    write_definition(tmp_path / "fleet/forty.yaml", definition)
    async with (
        prefect_server(tmp_path / "server", "postgresql") as server,
        httpx.AsyncClient(base_url=f"{server.api}/", trust_env=False, timeout=60) as api,
    ):
        argv = [sys.executable, "-m", "flows.deploy", str(tmp_path / "fleet")]
        await finished(argv, log=tmp_path / "deploy.log", env=server.env, timeout=200)
        deployment = (await api.get("deployments/name/build-oxide-image/forty")).raise_for_status().json()["id"]
        for _ in range(BUILDS):
            (await api.post(f"deployments/{deployment}/create_flow_run", json={})).raise_for_status()

        async def runs() -> list[dict[str, Any]]:
            body = {"deployments": {"id": {"any_": [deployment]}}, "limit": 200}
            found: list[dict[str, Any]] = (await api.post("flow_runs/filter", json=body)).raise_for_status().json()
            return found

        most = 0

        async def until(count: int) -> list[dict[str, Any]]:
            nonlocal most
            async with asyncio.timeout(1100):
                while True:
                    found = await runs()
                    states = Counter(run["state_type"] for run in found)
                    most = max(most, states["RUNNING"] + states["PENDING"], len(machines(cheap_region)))
                    if sum(states[state] for state in FINAL) >= count:
                        return found
                    await asyncio.sleep(0.5)

        async def look_for_the_dead() -> None:
            """Reclaim, as on its schedule, but with a window that is shorter."""
            env = {**server.env, "IMAGE_BAKERY_HEARTBEAT_WINDOW": "60"}
            script = "import asyncio; from flows.reclaim import reclaim; asyncio.run(reclaim())"
            while True:
                await finished([sys.executable, "-c", script], log=tmp_path / "reclaim.log", env=env, timeout=100)
                await asyncio.sleep(5)

        worker = [sys.executable, "-m", "flows.worker", "--pool", "bakery", "--limit", "4", "--name"]
        env = {**server.env, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
        async with program([*worker, "one"], log=tmp_path / "one.log", env=env):
            async with program([*worker, "two"], log=tmp_path / "two.log", env=env) as second:
                await until(BUILDS // 2)
                kill(second.pid)
                reclaim = asyncio.create_task(look_for_the_dead())
            ended = await until(BUILDS)
            reclaim.cancel()
            await asyncio.wait([reclaim])
    assert most <= AT_ONCE
    states = Counter(run["state_type"] for run in ended)
    print(f"\n{dict(states)}, at most {most} at once")
    # What the killed worker had is reported, or was built all the same; all others are built, each once.
    assert states["COMPLETED"] >= BUILDS - 4
    images = Counter(image["name"].removeprefix("image-") for image in cheap_region.made()["images"])
    built = [run["id"] for run in ended if run["state_type"] == "COMPLETED"]
    assert all(images[run[-8:]] == 1 for run in built), (images, built)
    assert sum(images.values()) <= BUILDS


def machines(region: OxideRegion) -> list[Any]:
    return region.inventory().get("instances", [])


def kill(worker: int) -> None:
    """Kill a worker; its builds live on as long as they can."""
    os.kill(worker, signal.SIGSTOP)  # it is not to see that its child has ended
    for child in Path(f"/proc/{worker}/task/{worker}/children").read_text(encoding="utf-8").split():
        if b"worker" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
