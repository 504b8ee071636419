from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from emulators.guests import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE
from emulators.guests.build import build_guest
from emulators.guests.image import read_image
from emulators.machines import PowerOff
from emulators.machines.qemu import QemuMachine, QemuMachines
from tests.emulators.machines.support import GIB, Guest


@pytest.fixture
def debian() -> Path:
    here = Path(__file__).parents[3]
    output = Path(os.environ.get(DIRECTORY_VARIABLE) or here / DEFAULT_DIRECTORY)
    directory = output / "debian"
    return directory if (directory / "image.json").exists() else build_guest("debian", output)


@pytest.fixture
async def booted(debian: Path, tmp_path: Path) -> AsyncIterator[tuple[QemuMachine, Guest]]:
    guest = Guest(tmp_path)
    machines = QemuMachines("tcg", guest.address.port)
    await machines.copy_disk(debian / "disk.raw", tmp_path / "disk.raw", 4 * GIB)
    machine = machines.machine("one")
    spec = guest.spec()
    script = b"#!/bin/sh\necho ran > /var/tmp/user-data\n"
    cloud_init = replace(spec.cloud_init, user_data=script)
    await machine.power_on(replace(spec, memory=GIB, cpus=2, cloud_init=cloud_init))
    yield machine, guest
    await machine.power_off()


@pytest.mark.slow
async def test_a_first_boot_up_to_the_guests_own_power_off(booted: tuple[QemuMachine, Guest], debian: Path) -> None:
    machine, guest = booted
    user = read_image(debian).os
    said = await guest.run(
        "hostname; sudo -n id -un; df --output=size -B1G / | tail -1; sudo cat /etc/machine-id | wc -c;"
        "ls /etc/ssh/ssh_host_*_key; systemctl is-failed '*' | grep -c failed",
        user=user,
        deadline=200,
    )
    # A GiB of file system is rounded up, so a root that has not grown is one of 2.
    assert said.split() == [
        *("oven", "root", "4", "33", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ed25519_key", "0"),
    ]
    # Not by `cloud-init status --wait`: another start of Python takes an emulated processor longer than the script.
    wait = "until [ -s /var/tmp/user-data ]; do sleep 0.2; done; cat /var/tmp/user-data"
    assert await guest.run(wait, user=user) == "ran\n"

    await guest.run("sudo poweroff", user=user)
    assert await asyncio.wait_for(machine.wait_off(), 60) is PowerOff.BY_GUEST
