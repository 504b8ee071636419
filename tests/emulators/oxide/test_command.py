"""The command line, with a server in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulators.oxide.__main__ import main

_ROOT = Path(__file__).parents[3]
_SERVE = """
import sys
from emulators.oxide import __main__, service
from tests.emulators.oxide.fakes import FakeMachines

async def choose(kind, *, ssh_port):
    return FakeMachines()

service.choose = choose
sys.exit(__main__.main(sys.argv[1:]))
"""


class Served:
    def __init__(self, state: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, "serve", "--state", str(state), "--ssh-port", "2222"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline())
        token = Path(self.ready["token_file"])
        assert token.stat().st_mode & 0o777 == 0o600
        self.http = httpx.Client(
            base_url=self.ready["api"],
            headers={"authorization": f"Bearer {token.read_text().strip()}"},
            trust_env=False,
        )

    def close(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    main(["down", "--state", str(tmp_path / "state")])


def test_what_a_killed_server_had_answered_is_there_again_on_the_same_port(state: Path) -> None:
    first = Served(state)
    try:
        made = first.http.post("/v1/projects", json={"name": "kept", "description": ""}).json()
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    finally:
        first.close()
    second = Served(state)
    try:
        assert second.ready["api"] == first.ready["api"]
        assert second.http.get("/v1/projects/kept").json() == made
    finally:
        second.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(state: Path, number: signal.Signals) -> None:
    served = Served(state)
    try:
        served.process.send_signal(number)
        assert served.process.wait(30) == 0
    finally:
        served.close()


def test_show_and_down_find_it_by_its_state_directory(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = Served(state)
    try:
        assert main(["show", "--state", str(state)]) == 0
        assert "bakery" in capsys.readouterr().out
        assert main(["where", "no-such", "--state", str(state)]) == 1
        assert "no image 'no-such'" in capsys.readouterr().err
        assert main(["down", "--state", str(state)]) == 0
        assert served.process.wait(30) == 0
        assert main(["show", "--state", str(state)]) == 1
        assert "start it with `up`" in capsys.readouterr().err
    finally:
        served.close()


def test_a_second_server_on_one_state_directory_says_so(state: Path) -> None:
    served = Served(state)
    try:
        second = subprocess.run(
            [sys.executable, "-c", _SERVE, "serve", "--state", str(state)],
            capture_output=True,
            text=True,
            cwd=_ROOT,
            check=False,
        )
        assert second.returncode == 1
        assert "already serves" in second.stderr
    finally:
        served.close()


def test_a_wrong_image_is_said_before_anything_starts(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--state", str(state), "--image", str(state / "none")]) == 1
    assert "--image takes a directory with disk.raw" in capsys.readouterr().err
