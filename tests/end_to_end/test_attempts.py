"""Builds that go on beside what was left of others: the next attempt of the same run, and another container's build."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.test_reclaim import run as run_module
from tests.end_to_end.test_ways_out import by_worker
from tests.end_to_end.world import OxideRegion, Prefect, account, eventually, is_alive, process, write_definition


@pytest.mark.timeout(280)
@pytest.mark.xdist_group("prefect")
def test_a_quick_retry_loses_nothing_to_the_first_attempts_teardown(
    cheap_region: OxideRegion, deployed: Prefect, tmp_path: Path
) -> None:
    # Each teardown of the first attempt, the reaper's and the hook's, is slow with its instance.
    cheap_region.fault(operation="instance_delete", kind="latency", seconds=15, count=2)
    hangs_once = f"test -e {tmp_path}/first || {{ touch {tmp_path}/first; exec {cheap_region.script}; }}"
    definition = cheap_region.definition({"type": "shell-local", "inline": [hangs_once]})
    with by_worker(definition, deployed, cheap_region, tmp_path):
        run, builder = eventually(cheap_region.builder, 120, "the first attempt runs")
        (first,) = cheap_region.made()["instances"]
        os.kill(builder, signal.SIGKILL)
        eventually(lambda: deployed.state(run) == "CRASHED", 60, "the first attempt has ended")
        # As Retry in the UI does it.
        retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
        deployed.request("POST", f"/flow_runs/{run}/set_state", retry)
        eventually(lambda: deployed.state(run) in ("COMPLETED", "FAILED", "CRASHED"), 150, "the second has ended")
        assert deployed.state(run) == "COMPLETED", deployed.log(run)
        eventually(lambda: set(cheap_region.made()) == {"images"}, 60, "only the image is left")
        assert first["name"].endswith("-1")
        assert "nothing of this run is left" in deployed.log_with(run, "The reaper removed")


def in_a_container(*argv: str) -> list[str]:
    """A command line in a pid namespace of its own, with its own /proc, as in a container."""
    return ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *argv]


@pytest.mark.timeout(280)
@pytest.mark.xdist_group("prefect")
def test_another_containers_live_build_is_left_alone(
    cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path
) -> None:
    definition = cheap_region.definition({"type": "shell", "inline": [cheap_region.script]})
    build = write_definition(tmp_path / "build.yaml", definition)
    # Both have the same home, as containers with a shared volume do.
    env = account(tmp_path / "home", prefect)
    argv = in_a_container(sys.executable, "-m", "flows.oxide_image", str(build))
    with process(argv, tmp_path / "build.log", env) as child:
        run, pid_there = eventually(cheap_region.builder, 120, "the script runs")
        before = cheap_region.made()
        env = {name: value for name, value in env.items() if name != "PREFECT_API_URL"}
        there = in_a_container(sys.executable, "-m", "flows.reclaim", str(build))
        done = subprocess.run(there, env=env, capture_output=True, text=True, timeout=100, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert re.search(rf"^left alone .* of flow run {run}: of another host", said, re.M), said
        assert run_module(["flows.reclaim", str(build)], env, code=0).count("left alone") == said.count("left alone")
        assert cheap_region.made() == before
        assert is_alive(child.pid)
        assert pid_there < 100  # as its own namespace counts: here that is someone else
