"""A whole build in a chroot, on real block devices: the OMI's disk boots by itself and holds what was provisioned."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emulators.machines import CloudInit, MachineSpec
from emulators.machines.qemu import qemu_machines
from tests.end_to_end.world import ROOT, OutscaleRegion, Prefect, eventually, process, write_definition


def bake(definition: dict[str, Any], env: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    build = write_definition(directory / "build.yaml", definition)
    argv = [sys.executable, "-m", "flows.outscale_image", str(build), "--artifact", str(directory / "artifact.json")]
    return subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


async def serial_output_until(disk: Path, text: bytes, directory: Path) -> bytes:
    """Boot a disk alone, and return what its serial console said once a text is in it."""
    machines = await qemu_machines()
    machine = machines.machine("omi")
    spec = MachineSpec("omi", 512 * 2**20, 1, (disk,), CloudInit("omi", "omi"), None, directory)
    await machine.power_on(spec)
    try:
        async with asyncio.timeout(90):
            while text not in (said := machine.serial.read(0, 2**20)):
                await asyncio.sleep(0.1)
    finally:
        await machine.power_off()
    return said


@pytest.mark.timeout(240)
@pytest.mark.xdist_group("prefect-outscale")
async def test_an_omi_boots_and_holds_what_was_provisioned(
    outscale: OutscaleRegion, prefect: Prefect, tmp_path: Path
) -> None:
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/file").write_text("from a directory\n", encoding="utf-8")
    definition = outscale.definition(
        {
            "type": "shell",
            "name": "first",
            "env": {"ODD": "`touch /tmp/on-the-host` $HOME \"'"},
            "inline": ["echo baked in a jail > /made", 'printf "%s\\n" "$ODD" > /odd', "sleep 600 &"],
        },
        {"type": "file", "source": "tree", "destination": "/srv"},
        # The guest's own start runs this, and the console shows it.
        {
            "type": "shell",
            "inline": [
                "printf '#!/bin/sh\\ncat /made /srv/tree/deep/file > /dev/console\\n' > /etc/rc.test",
                "chmod +x /etc/rc.test",
                "echo '::once:/etc/rc.test' >> /etc/inittab",
            ],
        },
        tags={"purpose": "test of {{build_name}}"},
        omi_description="made at {{isotime}}",
    )
    before = outscale.inventory()
    done = bake(definition, {**prefect.env, **outscale.env}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "A provisioner left a process running; it is ended now: sleep 600" in done.stderr
    assert outscale.env["OSC_SECRET_KEY"] not in done.stdout + done.stderr
    assert not Path("/tmp/on-the-host").exists()

    artifact = json.loads((tmp_path / "artifact.json").read_text(encoding="utf-8"))
    after = outscale.inventory()
    (omi,) = [image for image in after["images"] if image["id"] not in {old["id"] for old in before["images"]}]
    assert (omi["id"], omi["state"]) == (artifact["id"], "available")
    assert omi["tags"] == {"image-bakery": "artifact", "purpose": "test of test"}
    assert omi["description"].startswith("made at 20")
    assert omi["snapshot_ids"] == [artifact["snapshot_id"]]
    assert set(outscale.made()) == {"images", "snapshots"}

    copy = tmp_path / "disk.raw"
    subprocess.run(["cp", "--sparse=always", omi["path"], str(copy)], check=True)
    said = await serial_output_until(copy, b"from a directory", tmp_path)
    assert b"baked in a jail" in said


@pytest.mark.timeout(200)
@pytest.mark.xdist_group("prefect-outscale")
def test_a_worker_on_the_vm_bakes_an_omi(outscale: OutscaleRegion, deployed: Prefect, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "bakery"]
    definition = outscale.definition({"type": "shell", "inline": ["echo baked by a worker > /made"]})
    with process(argv, tmp_path / "worker.log", {**deployed.env, **outscale.env}):
        said = deployed.command(
            "deployment", "run", "build-outscale-image/by-hand", "--param", f"build={json.dumps(definition)}"
        )
        run = next(word for word in said.replace("│", " ").split() if word.count("-") == 4 and len(word) == 36)
        eventually(lambda: deployed.state(run) in ("COMPLETED", "FAILED", "CRASHED"), 120, "the run is through")
    assert deployed.state(run) == "COMPLETED", deployed.log(run)
    assert set(outscale.made()) == {"images", "snapshots"}


@pytest.mark.timeout(120)
@pytest.mark.xdist_group("prefect-outscale")
def test_a_failing_script_says_what_it_said_and_leaves_nothing(
    outscale: OutscaleRegion, prefect: Prefect, tmp_path: Path
) -> None:
    definition = outscale.definition({"type": "shell", "name": "bad", "inline": ["echo the disk is on fire", "exit 7"]})
    done = bake(definition, {**prefect.env, **outscale.env}, tmp_path)
    assert done.returncode == 1
    assert "provisioner bad: the script ended with exit code 7" in done.stderr
    assert "the disk is on fire" in done.stderr
    assert not outscale.made()
