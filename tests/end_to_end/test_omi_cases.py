"""Whole builds in a chroot that are out of the ordinary: several at once, larger volumes, from nothing, replaced."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.conftest import needs_root
from tests.end_to_end.test_omi import bake, serial_output_until
from tests.end_to_end.world import ROOT, OutscaleRegion, Prefect, eventually, outscale_region

pytestmark = pytest.mark.xdist_group("prefect-outscale")

DEBIAN = ROOT / "deployments/debian-from-scratch.yaml"
_FIRMWARE = Path("/usr/share/OVMF")
_LARGE = 100
"""MiB: a build that held so much at once would be over its limit."""

SIDE_BY_SIDE = """
import asyncio, json, sys, time

from flows.check import check
from flows.outscale_image.definition import OutscaleImageDefinition
from flows.outscale_image.flow import build_outscale_image

definitions = [check(OutscaleImageDefinition, given) for given in json.load(sys.stdin)]

async def timed(definition):
    start = time.monotonic()
    artifact = await build_outscale_image(definition)
    return {"seconds": time.monotonic() - start, **artifact.model_dump(mode="json")}

async def main():
    alone = await timed(definitions[0])
    together = await asyncio.gather(*map(timed, definitions[1:]))
    # Not ru_maxrss: that begins with what the process had before its exec, which is the test runner's.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak = int(status["VmHWM"].split()[0])
    print(json.dumps({"alone": alone, "together": together, "peak": peak}))

asyncio.run(main())
"""


def builds(definitions: list[dict[str, Any]], env: Mapping[str, str]) -> dict[str, Any]:
    """Run the first alone, then the others side by side, all in one process; and tell how each went."""
    done = subprocess.run(
        [sys.executable, "-c", SIDE_BY_SIDE], input=json.dumps(definitions),
        env=dict(env), cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def slow_region(tmp_path: Path, tiny: Path) -> Iterator[OutscaleRegion]:
    """A region that takes its time."""
    needs_root("block devices")
    seconds = {"volume": 2, "link": 2, "unlink": 1, "snapshot": 1, "image": 1}
    options = [word for name, time in seconds.items() for word in (f"--{name}-seconds", str(time))]
    with outscale_region(tmp_path, tiny, *options) as region:
        yield region


@pytest.mark.timeout(300)
def test_three_builds_side_by_side_take_little_longer_than_one(slow_region: OutscaleRegion, prefect: Prefect) -> None:
    definition = slow_region.definition({"type": "shell", "inline": ["echo baked > /made"]})
    env = {**prefect.env, **slow_region.env, "IMAGE_BAKERY_OUTSCALE_RATE": "100"}
    found = builds([definition] * 4, env)
    alone, together = found["alone"]["seconds"], [each["seconds"] for each in found["together"]]
    print(f"\none alone {alone:.2f} s, three at once {', '.join(f'{each:.2f}' for each in together)} s: ", end="")
    print(f"{max(together) / alone:.2f} times as long; {found['alone']['requests']} requests")
    assert len({each["id"] for each in found["together"]}) == 3
    assert set(slow_region.made()) == {"images", "snapshots"}
    # Where builds wait for each other it is three times. Another load on this machine must not make it fail.
    assert max(together) < alone * 2
    assert found["peak"] < 150 * 1024, "KiB"


@pytest.mark.timeout(280)
def test_ten_builds_of_two_processes_keep_to_the_rate(
    outscale: OutscaleRegion, prefect: Prefect, tmp_path: Path
) -> None:
    definition = outscale.definition({"type": "shell", "inline": ["echo baked > /made"]})
    env = {**prefect.env, **outscale.env}
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: builds([definition] * 5, env), range(2)))
    made = {each["id"] for found in done for each in [found["alone"], *found["together"]]}
    assert len(made) == 10
    requests = httpx.get(f"{outscale.ready['control']}/requests", trust_env=False, timeout=30).json()["requests"]
    times = [datetime.fromisoformat(request["time"]).timestamp() for request in requests]
    seconds = [sum(start <= time < start + 1 for time in times) for start in times]
    # One that was held up on its way comes together with those behind it: 0.2 s lie between two when they are sent.
    over = sum(each > 5 for each in seconds)
    print(f"\n{len(times)} requests, at most {max(seconds)} in any second, {over} seconds with more than 5: ", end="")
    assert over <= len(times) / 20
    # Over a longer time, such a delay hardly counts: that of one second makes five more.
    assert max(sum(start <= time < start + 10 for time in times) for start in times) <= 55


@pytest.mark.timeout(280)
def test_a_build_takes_little_memory_whatever_it_moves(
    outscale: OutscaleRegion, prefect: Prefect, tmp_path: Path
) -> None:
    with (tmp_path / "large").open("wb") as large:
        for _ in range(_LARGE):
            large.write(os.urandom(1 << 20))
    definition = outscale.definition(
        {"type": "file", "source": str(tmp_path / "large"), "destination": "/large"},
        {"type": "file", "source": "/large", "destination": str(tmp_path / "back"), "direction": "download"},
        root_volume_size=200,
        grow_root=True,
    )
    found = builds([definition], {**prefect.env, **outscale.env})
    print(f"\nat most {found['peak'] // 1024} MiB", end="")
    assert found["peak"] < 150 * 1024, "KiB"
    assert found["alone"]["size"] == 200
    assert (tmp_path / "back").stat().st_size == _LARGE << 20


@pytest.mark.timeout(240)
def test_a_volume_that_is_larger_is_filled_when_asked(
    outscale: OutscaleRegion, prefect: Prefect, tmp_path: Path
) -> None:
    definition = outscale.definition(
        {"type": "shell", "name": "size", "inline": ["df -k / | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2"]},
        root_volume_size=3,
        grow_root=True,
        omi_name="grown {{run_id}}",
        snapshot_account_ids=["555566667777"],
    )
    done = bake(definition, {**prefect.env, **outscale.env}, tmp_path)
    assert done.returncode == 0, done.stderr
    (size,) = [int(line.rpartition(" ")[2]) for line in done.stderr.splitlines() if "[size]" in line]
    assert size > 2.5 * 2**20
    assert "trimmed" in done.stderr


@pytest.mark.timeout(240)
def test_an_omi_is_replaced(outscale: OutscaleRegion, prefect: Prefect, tmp_path: Path) -> None:
    env = {**prefect.env, **outscale.env}
    definition = outscale.definition({"type": "shell", "inline": ["date > /made"]}, omi_name="web")
    assert bake(definition, env, tmp_path).returncode == 0
    first = json.loads((tmp_path / "artifact.json").read_text())
    done = bake(definition, env, tmp_path)
    assert done.returncode == 2
    assert f"omi_name: is taken by {first['id']}" in done.stderr
    done = bake({**definition, "force_deregister": True, "force_delete_snapshot": True}, env, tmp_path)
    assert done.returncode == 0, done.stderr
    second = json.loads((tmp_path / "artifact.json").read_text())
    left = outscale.made()
    assert [(image["id"], image["name"]) for image in left["images"]] == [(second["id"], "web")]
    assert [snapshot["id"] for snapshot in left["snapshots"]] == [second["snapshot_id"]]


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_an_omi_from_scratch_boots(
    outscale: OutscaleRegion, prefect: Prefect, tmp_path: Path, tiny: Path
) -> None:
    """The tiny guest's tree on a disk that pre-mount commands partition and post-mount commands make bootable."""
    core, grub = tmp_path / "core.img", "/usr/lib/grub/i386-pc"
    definition = outscale.definition(
        {
            "type": "shell",
            "inline": [
                "printf '#!/bin/sh\\necho made from nothing > /dev/console\\n' > /etc/rc.test",
                "chmod +x /etc/rc.test",
                "echo '::once:/etc/rc.test' >> /etc/inittab",
            ],
        },
        from_scratch=True,
        root_volume_size=1,
        root_device_name="/dev/sda1",
        omi_block_device_mappings=[{"device_name": "/dev/sda1", "delete_on_vm_deletion": True}],
        omi_boot_modes=["legacy"],
        # A kernel that reads no partition tables knows nothing of this one; the next command needs its partition.
        pre_mount_commands=[
            "printf 'label: dos\\nstart=2048, type=83, bootable\\n' | sfdisk --quiet {{.Device}}",
            "mkfs.ext4 -q -L root -O ^metadata_csum_seed,^orphan_file {{.Device}}1",
        ],
        post_mount_commands=[
            f"cp -a {tiny}/root/. {{{{.MountPath}}}}",
            # Machines that boot from no disk use that tree; kernel and GRUB's configuration are on its disk alone.
            "rmdir {{.MountPath}}/boot",
            f"debugfs -R 'rdump /boot {{{{.MountPath}}}}' '{tiny}/disk.raw?offset=1048576'",
            f"grub-mkimage -O i386-pc -d {grub} -p '(hd0,msdos1)/boot/grub' -o {core} "
            "biosdisk part_msdos ext2 normal linux linux16 serial",
            f"dd if={grub}/boot.img of={{{{.Device}}}} bs=446 count=1 conv=notrunc status=none",
            f"dd if={core} of={{{{.Device}}}} bs=512 seek=1 conv=notrunc status=none",
        ],
    )
    del definition["source_omi"]
    done = bake(definition, {**prefect.env, **outscale.env}, tmp_path)
    assert done.returncode == 0, done.stderr
    left = outscale.made()
    assert set(left) == {"images", "snapshots"}
    (omi,) = left["images"]
    copy = tmp_path / "disk.raw"
    subprocess.run(["cp", "--sparse=always", omi["path"], str(copy)], check=True)
    await serial_output_until(copy, b"made from nothing", tmp_path)


def boots(disk: Path, directory: Path, firmware: list[str]) -> str:
    """Boot a disk in QEMU until it asks who logs in, and return what its console said."""
    console = directory / "console"
    overlay = directory / "overlay.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", overlay], check=True)
    argv = [
        *("qemu-system-x86_64", "-M", "q35,accel=tcg", "-cpu", "max", "-m", "1024", "-display", "none", "-no-reboot"),
        *("-drive", f"file={overlay},if=virtio,format=qcow2", "-nic", "none", "-serial", f"file:{console}", *firmware),
    ]
    machine = subprocess.Popen(argv)
    try:

        def asked() -> str | None:
            assert machine.poll() is None, "the machine ended"
            said = console.read_text(errors="replace") if console.exists() else ""
            return said if "login: " in said else None

        return eventually(asked, 900, f"a log-in prompt: see {console}")
    finally:
        machine.kill()
        machine.wait()
        overlay.unlink()
        console.unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_debian_from_scratch_boots_by_bios_and_by_uefi(
    outscale: OutscaleRegion, prefect: Prefect, tmp_path: Path
) -> None:
    for program in ("mmdebstrap", "mkfs.vfat", "qemu-img"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    argv = [sys.executable, "-m", "flows.outscale_image", str(DEBIAN), "--artifact", str(tmp_path / "artifact.json")]
    env = {**prefect.env, **outscale.env}
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-8000:]
    left = outscale.made()
    assert set(left) == {"images", "snapshots"}
    disk = Path(left["images"][0]["path"])

    assert "debian login: " in boots(disk, tmp_path, [])
    if not (_FIRMWARE / "OVMF_CODE_4M.fd").exists():
        pytest.skip("ovmf is not installed: the disk boots by BIOS")
    variables = tmp_path / "variables.fd"
    shutil.copy(_FIRMWARE / "OVMF_VARS_4M.fd", variables)
    firmware = [
        *("-drive", f"if=pflash,format=raw,readonly=on,file={_FIRMWARE / 'OVMF_CODE_4M.fd'}"),
        *("-drive", f"if=pflash,format=raw,file={variables}"),
    ]
    assert "debian login: " in boots(disk, tmp_path, firmware)
