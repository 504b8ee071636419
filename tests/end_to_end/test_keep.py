"""Builds that fail and are kept: looked at, gone on with by the same run or another process, or cleaned up."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.end_to_end.world import ROOT, OxideRegion, Prefect, account, eventually, process, write_definition

COUNTED = {"type": "shell", "name": "counted", "inline": ["echo once >> /root/counted"]}
SHOWN = {"type": "shell", "name": "shown", "inline": ["cat /root/counted"]}


def kept_definition(region: OxideRegion, directory: Path, **options: Any) -> Path:
    """A build whose second provisioner is a script that fails until somebody mends it."""
    (directory / "second.sh").write_text("#!/bin/sh\necho not yet; exit 3\n", encoding="utf-8")
    second = {"type": "shell", "name": "second", "script": "second.sh"}
    definition = region.definition(COUNTED, second, SHOWN, **{"on_error": "keep", **options})
    return write_definition(directory / "build.yaml", definition)


def mend(directory: Path) -> None:
    (directory / "second.sh").write_text("#!/bin/sh\necho mended\n", encoding="utf-8")


def bake(build: Path, env: Mapping[str, str], *more: str, code: int) -> str:
    argv = [sys.executable, "-m", "flows.oxide_image", str(build), *more]
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_to_resume(said: str) -> str:
    match = re.search(r"--resume ([0-9a-f-]{36})", said)
    assert match, said
    return match[1]


def counted(said: str) -> int:
    """How often the first provisioner ran, as the last one saw it."""
    return len(re.findall(r"\[shown\] once", said))


@pytest.mark.timeout(240)
def test_another_process_goes_on_with_a_kept_build(cheap_region: OxideRegion, tmp_path: Path) -> None:
    build = kept_definition(cheap_region, tmp_path)
    first, second = account(tmp_path / "first"), account(tmp_path / "second")
    said = bake(build, first, code=1)
    assert "not yet" in said
    assert "is kept until" in said
    assert {"instances", "disks", "ssh_keys"} <= set(cheap_region.made())

    # A person looks at it, with the command that was printed.
    (command,) = re.findall(r"Look at it:\s+(ssh .*)", said)
    key = Path(command.split()[2])
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
    looked = subprocess.run(
        [*command.split(), *options, "cat /root/counted"], capture_output=True, text=True, timeout=60, check=False
    )
    assert looked.stdout == "once\n", looked.stderr

    mend(tmp_path)
    said = bake(build, second, "--resume", run_to_resume(said), code=0)
    assert counted(said) == 1
    assert "[second] mended" in said
    assert set(cheap_region.made()) == {"images"}


@pytest.mark.timeout(240)
def test_it_can_fail_and_be_kept_again(cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path) -> None:
    build = kept_definition(cheap_region, tmp_path)
    env = account(tmp_path / "home", prefect)
    run = run_to_resume(bake(build, env, code=1))
    assert run_to_resume(bake(build, env, "--resume", run, code=1)) == run
    mend(tmp_path)
    assert counted(bake(build, env, "--resume", run, code=0)) == 1
    assert set(cheap_region.made()) == {"images"}
    assert not list((tmp_path / "home/state/kept").iterdir())


@pytest.mark.timeout(240)
def test_what_is_kept_can_be_removed(cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path) -> None:
    build = kept_definition(cheap_region, tmp_path)
    env = account(tmp_path / "home", prefect)
    run = run_to_resume(bake(build, env, code=1))
    assert "nothing of it is left" in bake(build, env, "--clean-up", run, code=0)
    assert cheap_region.made() == {}
    said = bake(build, env, "--resume", run, code=1)
    assert "nothing of this build is there" in said
    assert cheap_region.made() == {}


def another_token(region: OxideRegion) -> str:
    """A second device token of the same user (the OpenAPI document, device_auth_request and device_access_token)."""
    api, control = region.ready["api"], region.ready["control"]
    client = str(uuid4())
    with httpx.Client(trust_env=False, timeout=30) as http:
        asked = http.post(f"{api}/device/auth", data={"client_id": client}).raise_for_status().json()
        (user, *_) = http.get(f"{control}/inventory").json()["operator"]["users"]
        granted = {"silo": user["silo"], "user": user["name"]}
        http.post(f"{control}/device/{asked['user_code']}", json=granted).raise_for_status()
        token = {
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "device_code": asked["device_code"],
            "client_id": client,
        }
        return str(http.post(f"{api}/device/token", data=token).raise_for_status().json()["access_token"])


@pytest.mark.timeout(240)
def test_a_token_that_has_changed_is_told(cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path) -> None:
    build = kept_definition(cheap_region, tmp_path)
    env = account(tmp_path / "home", prefect)
    run = run_to_resume(bake(build, env, code=1))
    (tmp_path / "rotated").write_text(another_token(cheap_region), encoding="utf-8")
    rotated = f"token={{file: {tmp_path / 'rotated'}}}"
    said = bake(build, env, "--resume", run, "--set", rotated, code=1)
    assert "its key derives from the API token" in said
    assert "instances" in cheap_region.made()
    bake(build, env, "--clean-up", run, "--set", rotated, code=0)
    assert cheap_region.made() == {}


@contextmanager
def failed_and_waiting(build: Path, env: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A build at a terminal, that has failed and asks."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "flows.oxide_image", str(build)]
    child = subprocess.Popen(argv, env=dict(env), cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        yield child, ours
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.wait(60)
        os.close(ours)


def read_until(terminal: int, text: str) -> str:
    said = b""
    while text.encode() not in said:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            more = b""
        assert more, said.decode(errors="replace")
        said += more
    return said.decode(errors="replace")


@pytest.mark.timeout(240)
def test_a_person_at_the_terminal_has_it_try_again(cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path) -> None:
    build = kept_definition(cheap_region, tmp_path, on_error="ask")
    with failed_and_waiting(build, account(tmp_path / "home", prefect)) as (child, terminal):
        said = read_until(terminal, "Your answer: ")
        assert "1  try again" in said
        mend(tmp_path)
        os.write(terminal, b"1\n")
        said = read_until(terminal, "tear down ")
        assert child.wait(60) == 0
    assert counted(said) == 1
    assert set(cheap_region.made()) == {"images"}


@pytest.mark.timeout(240)
def test_a_person_at_the_terminal_has_it_cleaned_up(
    cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path
) -> None:
    build = kept_definition(cheap_region, tmp_path, on_error="ask")
    with failed_and_waiting(build, account(tmp_path / "home", prefect)) as (child, terminal):
        read_until(terminal, "Your answer: ")
        os.write(terminal, b"clean up\n")
        read_until(terminal, "The build failed: ")
        assert child.wait(60) == 1
    assert cheap_region.made() == {}


@pytest.mark.timeout(240)
def test_nobody_to_ask_is_a_mistake_before_anything_is_created(
    cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path
) -> None:
    build = kept_definition(cheap_region, tmp_path, on_error="ask")
    assert "needs somebody to ask" in bake(build, account(tmp_path / "home", prefect), code=2)
    assert cheap_region.made() == {}


@pytest.mark.timeout(240)
def test_a_killed_build_is_kept_and_a_cancelled_one_is_not(
    cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path
) -> None:
    build = kept_definition(cheap_region, tmp_path)
    hang = {"type": "shell", "name": "hang", "inline": [cheap_region.script]}
    env = account(tmp_path / "home", prefect)
    reaper = tmp_path / "home/state/reaper.log"
    for number in (signal.SIGKILL, signal.SIGINT):
        write_definition(build, cheap_region.definition(COUNTED, hang, on_error="keep"))
        argv = [sys.executable, "-m", "flows.oxide_image", str(build)]
        with process(argv, tmp_path / "log", env) as child:
            run, pid = eventually(cheap_region.builder, 120, f"the script runs; see {tmp_path / 'log'}")
            assert pid == child.pid
            os.kill(pid, number)
            child.wait(60)
            if number == signal.SIGKILL:
                eventually(lambda: reaper.exists() and "is kept" in reaper.read_text(), 60, "the reaper has seen it")
                assert "instances" in cheap_region.made()
                bake(build, env, "--clean-up", run, code=0)
        eventually(lambda: cheap_region.made() == {}, 60, "it is gone")


@pytest.mark.timeout(240)
def test_a_breakpoint_waits_for_a_person_at_the_terminal(
    cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path
) -> None:
    stop = {"type": "breakpoint", "note": "Have a look first."}
    build = write_definition(tmp_path / "build.yaml", cheap_region.definition(COUNTED, stop, SHOWN))
    assert "needs somebody to ask" in bake(build, account(tmp_path / "home", prefect), code=2)
    with failed_and_waiting(build, account(tmp_path / "home", prefect)) as (child, terminal):
        said = read_until(terminal, "Press Enter to go on: ")
        assert "Have a look first." in said
        assert "[shown]" not in said
        os.write(terminal, b"\n")
        assert counted(read_until(terminal, "tear down ")) == 1
        assert child.wait(60) == 0
    assert set(cheap_region.made()) == {"images"}


def start(prefect: Prefect, build: Path, definition: dict[str, Any]) -> str:
    given = json.dumps({**definition, "definition_file": str(build)})
    said = prefect.command("deployment", "run", "build-oxide-image/by-hand", "--param", f"build={given}")
    return next(word for word in said.replace("│", " ").split() if word.count("-") == 4 and len(word) == 36)


def with_block(region: OxideRegion, prefect: Prefect, directory: Path, **options: Any) -> tuple[Path, dict[str, Any]]:
    import yaml

    build = kept_definition(region, directory, **options)
    return build, yaml.safe_load(build.read_text(encoding="utf-8"))


@pytest.mark.timeout(280)
@pytest.mark.xdist_group("prefect")
def test_a_retry_of_the_run_goes_on(
    cheap_region: OxideRegion, deployed: Prefect, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    build, definition = with_block(cheap_region, deployed, tmp_path)
    run = start(deployed, build, definition)
    eventually(lambda: deployed.state(run) in ("FAILED", "CRASHED", "COMPLETED"), 120, "the run has ended")
    deployed.log_with(run, f"prefect flow-run retry {run}")
    assert "instances" in cheap_region.made()
    mend(tmp_path)
    deployed.command("flow-run", "retry", run)
    eventually(lambda: deployed.state(run) in ("COMPLETED", "CRASHED"), 120, "the run is through")
    assert counted(deployed.log_with(run, "Baked image ")) == 1
    assert set(cheap_region.made()) == {"images"}


def suspended(region: OxideRegion, prefect: Prefect, worker: subprocess.Popen[bytes], directory: Path) -> str:
    """A run that failed and asks: nothing of it waits on the worker, and what it made is there."""
    build, definition = with_block(region, prefect, directory, on_error="ask")
    run = start(prefect, build, definition)
    eventually(lambda: prefect.state(run) in ("PAUSED", "FAILED", "CRASHED"), 120, "the run asks")
    assert prefect.request("GET", f"/flow_runs/{run}")["state_name"] == "Suspended"
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    eventually(lambda: not children.read_text(), 60, "its process has ended")
    assert "instances" in region.made()
    return run


def answer(prefect: Prefect, run: str, said: str) -> str:
    """Answer as the form's button does; and return how the run ends."""
    body = {"run_input": {"answer": said}}
    assert prefect.request("POST", f"/flow_runs/{run}/resume", body)["status"] == "ACCEPT"
    ends = ("COMPLETED", "FAILED", "CRASHED")
    return eventually(lambda: next((end for end in ends if prefect.state(run) == end), None), 120, "the run is through")


@pytest.mark.timeout(280)
@pytest.mark.xdist_group("prefect")
def test_a_person_answers_in_the_ui(
    cheap_region: OxideRegion, deployed: Prefect, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    run = suspended(cheap_region, deployed, worker, tmp_path)
    mend(tmp_path)
    assert answer(deployed, run, "try again") == "COMPLETED", deployed.log(run)
    assert counted(deployed.log_with(run, "Baked image ")) == 1
    assert set(cheap_region.made()) == {"images"}


@pytest.mark.timeout(280)
@pytest.mark.xdist_group("prefect")
def test_a_person_has_a_suspended_build_cleaned_up(
    cheap_region: OxideRegion, deployed: Prefect, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    run = suspended(cheap_region, deployed, worker, tmp_path)
    assert answer(deployed, run, "clean up") == "FAILED"
    deployed.log_with(run, "the build failed, and the answer is: clean up")
    assert cheap_region.made() == {}
