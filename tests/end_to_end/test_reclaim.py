"""What is left when the build and its reaper are both killed: found again by the next build, by hand, by a flow."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.end_to_end.world import (
    ROOT,
    OxideRegion,
    Prefect,
    Region,
    account,
    eventually,
    is_alive,
    process,
    write_definition,
)


def reaper_of(builder: int) -> int:
    """The reaper's pid: the child of the build that is a session of its own and reads a pipe."""
    children = subprocess.check_output(["pgrep", "--parent", str(builder), "--full", "tasks.reaper"], text=True)
    return int(children.split()[0])


def killed(region: Region, build: Path, env: Mapping[str, str], log: Path) -> str:
    """Kill a build in the middle of a provisioner, and its reaper first; what it made is still there."""
    with process([sys.executable, "-m", f"flows.{region.package}", str(build)], log, env) as child:
        run, builder = eventually(region.builder, 120, f"the script runs; see {log}")
        assert builder == child.pid
        reaper = reaper_of(builder)
        os.kill(reaper, signal.SIGKILL)
        os.kill(builder, signal.SIGKILL)
        child.wait(30)
        eventually(lambda: not is_alive(reaper), 30, "the reaper is gone")
    assert region.made()
    return run


def run(argv: list[str], env: Mapping[str, str], code: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *argv], env=env, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(params=["oxide", "outscale"])
def region(request: pytest.FixtureRequest) -> Region:
    name = "cheap_region" if request.param == "oxide" else "outscale"
    return request.getfixturevalue(name)  # type: ignore[no-any-return]


@pytest.mark.timeout(280)
@pytest.mark.xdist_group("prefect-outscale")
def test_by_hand_on_a_host_with_no_server(region: Region, prefect: Prefect, tmp_path: Path) -> None:
    hang = {"type": "shell", "inline": [region.script]}
    build = write_definition(tmp_path / "build.yaml", region.definition(hang))
    env = {**account(tmp_path / "home", prefect), **region.env}
    dead = killed(region, build, env, tmp_path / "build.log")
    before = region.made()
    env = {name: value for name, value in env.items() if name != "PREFECT_API_URL"}
    said = run(["flows.reclaim", "--dry-run", str(build)], env, code=3)
    assert dead in said
    assert region.made().keys() == before.keys()
    said = run(["flows.reclaim", str(build)], env, code=0)
    assert re.search(rf"^removed .* of flow run {dead}:", said, re.M), said
    eventually(lambda: region.made() == {}, 60, "nothing is left")
    assert "Nothing of any build is there." in run(["flows.reclaim", str(build)], env, code=0)


@pytest.mark.timeout(280)
def test_the_next_build_of_the_host_looks_for_it(cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path) -> None:
    hang = {"type": "shell", "inline": [cheap_region.script]}
    build = write_definition(tmp_path / "build.yaml", cheap_region.definition(hang))
    env = account(tmp_path / "home", prefect)
    dead = killed(cheap_region, build, env, tmp_path / "build.log")
    write_definition(build, cheap_region.definition({"type": "shell", "inline": ["true"]}))
    said = run(["flows.oxide_image", str(build)], env, code=0)
    assert f"may have left something: {dead}" in said
    assert set(cheap_region.made()) == {"images"}
    said = run(["flows.oxide_image", str(build)], env, code=0)
    assert "may have left something" not in said


ELSEWHERE = "11111111-2222-3333-4444-555555555555/1:2:3"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRoZSBzZWNvbmQgaGFsZiBvZiBhIGtleSBwYWly"


def leave_key(region: OxideRegion, name: str, run_id: str, server: str) -> None:
    """An SSH key of a build on another host."""
    token = Path(region.ready["token_file"]).read_text(encoding="utf-8").strip()
    mark = f"image-bakery run={run_id} try=1 server={server} host={ELSEWHERE} until=2099-01-01T00:00:00Z"
    httpx.post(
        f"{region.ready['api']}/v1/me/ssh-keys",
        json={"name": name, "description": mark, "public_key": KEY},
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
    ).raise_for_status()


def keys(region: OxideRegion) -> set[str]:
    return {key["name"] for key in region.inventory().get("ssh_keys", ())}


def a_run(prefect: Prefect, flow_id: str, state: str) -> str:
    made = prefect.request("POST", "/flow_runs/", {"flow_id": flow_id, "state": {"type": state}})
    return str(made["id"])


def reclaim(prefect: Prefect, region: OxideRegion, **settings: str) -> dict[str, Any]:
    """Run the flow, as a worker would, and return what it did."""
    where = [
        {
            "cloud": "oxide",
            "host": region.ready["api"],
            "token": {"file": region.ready["token_file"]},
            "projects": [region.ready["project"]],
        }
    ]
    script = (
        "import asyncio, json, sys; from flows.reclaim import reclaim; "
        "done = asyncio.run(reclaim(where=json.load(sys.stdin))); print('DONE', done.model_dump_json())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(where),
        env={**prefect.env, **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.rpartition("DONE ")[2])
    return result


@pytest.mark.timeout(280)
@pytest.mark.xdist_group("prefect")
def test_as_a_flow_it_goes_by_what_the_server_knows(prefect: Prefect, cheap_region: OxideRegion) -> None:
    variable = "from tasks.server import server_name; import asyncio; print(asyncio.run(server_name()))"
    server = subprocess.check_output(
        [sys.executable, "-c", variable], env=dict(prefect.env), cwd=ROOT, text=True, timeout=60
    ).split()[-1]
    flow = prefect.request("POST", "/flows/", {"name": "build-oxide-image"})["id"]
    # As many as die with a large host.
    many = [a_run(prefect, flow, "RUNNING") for _ in range(70)]
    ended, going_on = a_run(prefect, flow, "COMPLETED"), a_run(prefect, flow, "RUNNING")
    with_nothing_left, paused = a_run(prefect, flow, "RUNNING"), a_run(prefect, flow, "PAUSED")
    being_cancelled = a_run(prefect, flow, "CANCELLING")
    leave_key(cheap_region, "of-a-run-that-ended", ended, server)
    leave_key(cheap_region, "of-a-run-that-goes-on", going_on, server)
    leave_key(cheap_region, "of-an-unknown-run", str(uuid4()), server)
    leave_key(cheap_region, "of-another-server", ended, "0123456789abcdef")
    done = reclaim(prefect, cheap_region)
    assert (done["removed"], done["left_alone"]) == (1, 3)
    assert keys(cheap_region) == {"of-a-run-that-goes-on", "of-an-unknown-run", "of-another-server"}
    assert prefect.state(going_on) == "RUNNING"

    # Silent for a whole window, in which both the server and these looks went on.
    window = {"IMAGE_BAKERY_HEARTBEAT_WINDOW": "25"}

    silent = [going_on, with_nothing_left, being_cancelled, *many]

    def dead() -> bool:
        reclaim(prefect, cheap_region, **window)
        return {prefect.state(run) for run in silent}.isdisjoint({"RUNNING", "CANCELLING"})

    eventually(dead, 120, "the silent runs are taken for dead")
    assert keys(cheap_region) == {"of-an-unknown-run", "of-another-server"}
    assert prefect.state(going_on) == "CRASHED"
    # What a dead build has left is no longer the question: Prefect is told, all the same.
    assert prefect.state(with_nothing_left) == "CRASHED"
    assert prefect.state(being_cancelled) == "CANCELLED"
    assert prefect.state(paused) == "PAUSED"
    assert {prefect.state(run) for run in many} == {"CRASHED"}
    tables = prefect.request("POST", "/artifacts/filter", {"artifacts": {"key": {"any_": ["reclaim"]}}})
    assert any("of-a-run-that-ended" in str(table["data"]) for table in tables)
