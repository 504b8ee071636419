"""A whole build on virtual machines: what is provisioned is in the image, and nothing else of the build is left."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from blocks.oxide.client import OxideClient
from blocks.oxide.requests import (
    AutoPool,
    DistributedDisk,
    EphemeralIp,
    ImageSource,
    InstanceCreate,
    NetworkInterface,
    NetworkInterfaces,
    NewDisk,
)
from tasks.communicator import read
from tasks.ssh.guest import SshGuest
from tasks.ssh.plan import Credentials, LogInPlan, OfferedKey
from tasks.ssh.temporary_key import public_line, temporary_key
from tests.end_to_end.world import ROOT, OxideRegion, Prefect, eventually, save_oxide_block, write_definition

SECRET = "canary-5f1e7a6c"


def bake(
    definition: dict[str, Any], env: dict[str, str], directory: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    build = write_definition(directory / "build.yaml", definition)
    argv = [
        sys.executable,
        "-m",
        "flows.oxide_image",
        str(build),
        "--artifact",
        str(directory / "artifact.json"),
        *more,
    ]
    return subprocess.run(
        argv, env={**env, "CANARY": SECRET}, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )


def start_of_file_system(disk: Path) -> int:
    """Where an image's first partition begins, in bytes."""
    table = json.loads(subprocess.check_output(["sfdisk", "--json", str(disk)]))["partitiontable"]
    return int(table["partitions"][0]["start"]) * int(table.get("sectorsize", 512))


def file_in(disk: Path, path: str) -> bytes:
    """A file of the ext4 file system in an image's first partition, read without mounting it."""
    return _cat(f"{disk}?offset={start_of_file_system(disk)}", path)


def file_after_a_power_cut(disk: Path, path: str, directory: Path) -> bytes:
    """The same once the journal is replayed, as the next mount would do: what was synced may stand there alone."""
    copy = directory / "file-system"
    start = start_of_file_system(disk)
    subprocess.run(
        ["dd", f"if={disk}", f"of={copy}", "bs=1M", f"skip={start}", "iflag=skip_bytes", "conv=sparse", "status=none"],
        check=True,
    )
    done = subprocess.run(["e2fsck", "-p", str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return _cat(str(copy), path)


def _cat(file_system: str, path: str) -> bytes:
    return subprocess.check_output(["debugfs", "-R", f"cat {path}", file_system], stderr=subprocess.DEVNULL)


@pytest.mark.timeout(300)
def test_an_image_holds_what_was_provisioned_and_no_key(qemu_region: OxideRegion, tmp_path: Path) -> None:
    (tmp_path / "motd").write_text("from a file\n", encoding="utf-8")
    definition = qemu_region.definition(
        {"type": "shell", "name": "first", "inline": ["echo from a script > /made", "cat /root/.ssh/authorized_keys"]},
        {"type": "reboot"},
        {"type": "file", "source": "motd", "destination": "/etc/motd"},
        {"type": "shell", "name": "hangs", "inline": ["sleep 98765"], "timeout": "3s", "continue_on_error": True},
        {"type": "shell", "name": "gone", "inline": ["ps | grep -v grep | grep 'sleep 98765' && exit 1 || true"]},
        {"type": "shell-local", "inline": ["echo $PACKER_BUILDER_TYPE {{build.User}}"]},
        {"type": "sleep", "duration": "1s"},
        {"type": "shell", "inline": ["mkdir -p /root/tree/deep", "echo there > /root/tree/deep/file"]},
        {"type": "file", "direction": "download", "source": "/root/tree/", "destination": "tree"},
        {
            "type": "shell",
            "name": "last",
            "env": {"TOKEN": {"env": "CANARY"}},
            "inline": ['echo "the secret is $TOKEN"', "test -f /made", "rm -r /root/tree"],
        },
        {"type": "generalize"},
        # No sync: the file is in the guest's memory alone when the build goes on.
        {"type": "shell", "inline": ["echo written last > /last"]},
    )
    # No server is named: the build has to start one of its own.
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "DO_NOT_TRACK": "1",
    }
    done = bake(definition, env, tmp_path)
    assert done.returncode == 0, done.stderr

    artifact = json.loads((tmp_path / "artifact.json").read_text(encoding="utf-8"))
    assert artifact["name"].startswith("tiny-")
    for text in (artifact["name"], artifact["id"], "provision: first", "tear down"):
        assert text in done.stdout
    assert "[last] the secret is ********" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert (tmp_path / "tree/deep/file").read_text(encoding="utf-8") == "there\n"

    left = qemu_region.made()
    assert set(left) == {"images"}
    disk = Path(left["images"][0]["path"])
    assert file_in(disk, "/made") == b"from a script\n"
    assert file_in(disk, "/etc/motd") == b"from a file\n"
    assert file_in(disk, "/last") == b"written last\n"
    assert file_in(disk, "/root/.ssh/authorized_keys") == b""


@pytest.mark.timeout(120)
async def test_a_hard_stop_would_have_lost_the_last_file(qemu_region: OxideRegion, tmp_path: Path) -> None:
    """Why the guest is shut down from inside: the same script's file, and the rack's own stop."""
    key = temporary_key(SecretStr("token"), uuid4())
    token = SecretStr(Path(qemu_region.ready["token_file"]).read_text(encoding="utf-8").strip())
    project = qemu_region.ready["project"]
    async with OxideClient(qemu_region.ready["api"], token) as region:
        public = await region.create_ssh_key("key", "", public_line(key))
        image = await region.image("tiny")
        disk = NewDisk(
            name="i",
            description="",
            size=2**30,
            disk_backend=DistributedDisk(disk_source=ImageSource(image_id=image.id)),
        )
        network = NetworkInterface(name="i", description="", vpc_name="default", subnet_name="default")
        request = InstanceCreate(
            name="i", description="", hostname="i", memory=2**30, ncpus=1, boot_disk=disk,
            network_interfaces=NetworkInterfaces(params=[network]),
            external_ips=[EphemeralIp(pool_selector=AutoPool())], ssh_public_keys=[public.id],
        )  # fmt: skip
        instance = await region.create_instance(project, request)
        (address,) = [ip.ip for ip in await region.external_ips(instance.id) if ip.kind == "ephemeral"]
        credentials = Credentials("root", (OfferedKey("the key", key),))
        guest = SshGuest(LogInPlan(address, credentials, qemu_region.ready["ssh_port"]))
        with closing(guest):
            await guest.connect(100)
            assert await read(guest, "echo synced > /synced; sync; echo written last > /last") == (0, "")
            await region.stop_instance(instance.id)
        while (await region.instance(instance.id)).run_state != "stopped":
            await asyncio.sleep(0.05)
    (left,) = qemu_region.made()["disks"]
    disk_file = Path(left["path"])
    assert file_after_a_power_cut(disk_file, "/synced", tmp_path) == b"synced\n"
    assert file_after_a_power_cut(disk_file, "/last", tmp_path) == b""


@pytest.mark.timeout(240)
@pytest.mark.xdist_group("prefect")
def test_a_worker_bakes_an_image(
    qemu_region: OxideRegion, deployed: Prefect, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    token = Path(qemu_region.ready["token_file"]).read_text(encoding="utf-8").strip()
    save_oxide_block(deployed, "rack", qemu_region.ready["api"], token)
    definition = qemu_region.definition({"type": "shell", "inline": ["echo baked by a worker > /made"]})
    del definition["host"], definition["token"]
    definition["credentials"] = {"block": "rack"}
    said = deployed.command(
        "deployment", "run", "build-oxide-image/by-hand", "--param", f"build={json.dumps(definition)}"
    )
    run = next(word for word in said.replace("│", " ").split() if word.count("-") == 4 and len(word) == 36)
    eventually(lambda: deployed.state(run) in ("COMPLETED", "FAILED", "CRASHED"), 200, "the run is through")
    assert deployed.state(run) == "COMPLETED", deployed.log(run)
    log = deployed.log_with(run, "Baked image tiny-")

    left = qemu_region.made()
    assert set(left) == {"images"}
    assert file_in(Path(left["images"][0]["path"]), "/made") == b"baked by a worker\n"

    wanted = {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"any_": ["markdown"]}}}
    (page,) = deployed.request("POST", "/artifacts/filter", wanted)
    assert page["key"] == "oxide-instance-test"
    for text in (left["images"][0]["name"], "Source image", "| launch instance", "block: rack"):
        assert text in page["data"]
    assert token not in page["data"] + log + json.dumps(deployed.request("GET", f"/flow_runs/{run}"))
    arrow = ("snapshot boot disk", "register image")
    eventually(lambda: arrow in arrows(deployed, run), 60, f"the run's graph has the arrow {arrow}")


def arrows(prefect: Prefect, run: str) -> set[tuple[str, str]]:
    """From which step to which the run's graph has an arrow: where one was given what the other returned."""
    steps = prefect.request("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}, "limit": 200})
    names = {step["id"]: step["name"].rpartition("-")[0] for step in steps}
    return {
        (names[given["id"]], step["name"].rpartition("-")[0])
        for step in steps
        for inputs in step["task_inputs"].values()
        for given in inputs
        if given.get("id") in names
    }


@pytest.mark.timeout(120)
@pytest.mark.xdist_group("prefect")
def test_a_plain_secret_is_refused_before_the_run_is_stored(deployed: Prefect) -> None:
    definition = {"boot_disk_image_id": "x", "project": "p", "ssh_username": "u", "token": SECRET}
    with pytest.raises(AssertionError, match=r"\{env: VARIABLE\} or \{file: PATH\}") as refused:
        deployed.command("deployment", "run", "build-oxide-image/by-hand", "--param", f"build={json.dumps(definition)}")
    assert SECRET not in str(refused.value)
    assert SECRET not in json.dumps(deployed.request("POST", "/flow_runs/filter", {}))
