"""The command line, with a server in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from emulators.outscale import devices
from emulators.outscale.__main__ import main
from emulators.outscale.accounts import Account
from tests.emulators.outscale import needs
from tests.emulators.outscale.kitchen import SUBREGION, VM, SdkAuth, partition_table
from tests.emulators.outscale.served import ROOT, Served


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    main(["down", "--state", str(tmp_path / "state")])


def _client(served: Served) -> httpx.Client:
    auth = SdkAuth(Account.model_validate(served.credentials))
    return httpx.Client(base_url=served.ready["api"], auth=auth, trust_env=False, timeout=30)


def _wait(client: httpx.Client, link: str | None) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        volume = client.post("/ReadVolumes", json={}).json()["Volumes"][0]
        links = [linked["State"] for linked in volume["LinkedVolumes"]]
        if links == ([link] if link else []) and (link or volume["State"] == "available"):
            return
    raise AssertionError(volume)


def _linked(client: httpx.Client, node: str) -> str:
    volume_id: str = client.post("/CreateVolume", json={"SubregionName": SUBREGION, "Size": 1}).json()["Volume"][
        "VolumeId"
    ]
    _wait(client, None)
    body = {"VolumeId": volume_id, "VmId": VM, "DeviceName": node}
    assert client.post("/LinkVolume", json=body).status_code == 200
    _wait(client, "attached")
    return volume_id


@pytest.mark.usefixtures("no_device_left")
def test_a_killed_region_finds_its_devices_again(state: Path, device_name: Callable[[], str]) -> None:
    needs.sdk()
    node = device_name()
    first = Served(state)
    with _client(first) as client:
        volume_id = _linked(client, node)
        with Path(node).open("r+b", buffering=0) as device:
            device.write(partition_table((2048, 4096)))
    first.kill()
    assert os.path.lexists(node)
    with Served(state) as second:
        assert second.ready["api"] == first.ready["api"]
        loops = [path for _, path in devices.loops() if path.is_relative_to(state)]
        assert len(loops) == 1
        assert os.path.lexists(f"{node}1")
        with _client(second) as client:
            assert client.post("/UnlinkVolume", json={"VolumeId": volume_id}).status_code == 200
            _wait(client, None)
    assert not os.path.lexists(node)


@pytest.mark.usefixtures("no_device_left")
def test_down_cleans_up_after_a_kill_and_another_start(state: Path, device_name: Callable[[], str]) -> None:
    needs.sdk()
    node = device_name()
    first = Served(state)
    with _client(first) as client:
        _linked(client, node)
    first.kill()
    with Served(state):
        assert main(["down", "--state", str(state)]) == 0
    assert not os.path.lexists(node)


def test_up_show_where_and_down(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "plain.raw"
    disk.write_bytes(b"boot")
    options = ["--state", str(state), "--image", str(disk), "--no-devices", "--vm", "i-0000000a"]
    command = [sys.executable, "-m", "emulators.outscale", "up", *options]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=60) for _ in range(2)
    )
    assert first.stdout == second.stdout
    assert "already serving" in second.stderr
    assert main(["show", "--state", str(state)]) == 0
    assert "plain" in capsys.readouterr().out
    assert main(["where", "plain", "--state", str(state)]) == 0
    assert Path(capsys.readouterr().out.strip()).read_bytes()[:4] == b"boot"
    assert main(["where", "nothing", "--state", str(state)]) == 1
    assert main(["down", "--state", str(state)]) == 0
    assert main(["show", "--state", str(state)]) == 1
    assert "start it with `up`" in capsys.readouterr().err


def test_the_metadata_service_says_which_vm_this_is(state: Path) -> None:
    with Served(state, "--no-devices", "--vm", "i-0000000a", "--subregion", "eu-west-2b") as served:
        base = f"{served.ready['metadata']}/latest/meta-data"
        with httpx.Client(trust_env=False) as client:
            assert client.get(f"{base}/instance-id").text == "i-0000000a"
            assert client.get(f"{base}/placement/availability-zone").text == "eu-west-2b"
            assert client.get(f"{base}/ami-id").status_code == 404


def test_a_wrong_name_of_an_image_is_said_before_anything_starts(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "x~y.raw"
    disk.write_bytes(b"boot")
    assert main(["serve", "--state", str(state), "--image", str(disk)]) == 1
    assert "ImageName" in capsys.readouterr().err
