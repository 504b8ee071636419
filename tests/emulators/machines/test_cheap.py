from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import paramiko
import pytest

from emulators.machines import PowerOff
from emulators.machines.cheap import CheapMachine, CheapMachines
from tests.emulators.machines.support import GIB, Guest, processes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cheap machines need root's rights")


@pytest.fixture
async def off(tiny: Path, tmp_path: Path) -> AsyncIterator[tuple[CheapMachines, CheapMachine, Guest]]:
    guest = Guest(tmp_path)
    machines = CheapMachines(ssh_port=guest.address.port)
    await machines.copy_disk(tiny / "disk.raw", tmp_path / "disk.raw", GIB)
    machine = machines.machine("one")
    yield machines, machine, guest
    await machine.power_off()
    await machines.delete_disk(tmp_path / "disk.raw")
    await machines.delete_disk(tmp_path / "disk.raw")
    assert not processes(guest.address.host)
    assert not (tmp_path / "disk.raw.root").exists()


async def test_life_of_a_machine(off: tuple[CheapMachines, CheapMachine, Guest], tmp_path: Path) -> None:
    machines, machine, guest = off
    await machine.power_on(guest.spec())
    first = await guest.run("hostname; cat /proc/sys/kernel/random/boot_id", deadline=20)
    assert first.startswith("oven\n")
    assert await guest.run("echo kept > kept; id -un", user="baker", deadline=20) == "baker\n"
    assert b"is oven" in machine.serial.read(0, 1 << 20)

    await guest.run("reboot", deadline=20)
    await guest.rebooted(first.removeprefix("oven\n"), deadline=30)
    await machines.copy_disk(tmp_path / "disk.raw", tmp_path / "copy.raw", GIB)
    assert (tmp_path / "copy.raw.root/home/baker/kept").read_text() == "kept\n"

    await guest.run("poweroff", deadline=20)
    assert await asyncio.wait_for(machine.wait_off(), 20) is PowerOff.BY_GUEST
    await machine.power_on(guest.spec())
    await guest.run("true", deadline=20)
    await machine.power_off()
    assert await machine.wait_off() is PowerOff.BY_REGION
    await machines.delete_disk(tmp_path / "copy.raw")


async def test_slow_boots_and_banners(off: tuple[CheapMachines, CheapMachine, Guest]) -> None:
    _, machine, guest = off
    start = time.monotonic()
    await machine.power_on(guest.spec(boot_seconds=0.5, ssh_banner_delay=0.5))
    await guest.run("true", deadline=20)
    assert time.monotonic() - start > 1


async def test_refused_keys(off: tuple[CheapMachines, CheapMachine, Guest]) -> None:
    _, machine, guest = off
    await machine.power_on(guest.spec(refuses_auth=True))
    with pytest.raises(paramiko.AuthenticationException):
        await guest.run("true", deadline=20)


async def test_death(off: tuple[CheapMachines, CheapMachine, Guest]) -> None:
    _, machine, guest = off
    await machine.power_on(guest.spec(dies_after_seconds=0.2, never_boots=True))
    assert await asyncio.wait_for(machine.wait_off(), 10) is PowerOff.CRASHED
