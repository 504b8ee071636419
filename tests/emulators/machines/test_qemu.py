from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from emulators.machines import PowerOff
from emulators.machines.qemu import QemuMachine, QemuMachines
from tests.emulators.machines.support import GIB, Guest, processes, until


@pytest.fixture
async def booted(tiny: Path, tmp_path: Path) -> AsyncIterator[tuple[QemuMachines, QemuMachine, Guest]]:
    guest = Guest(tmp_path)
    machines = QemuMachines("tcg", guest.address.port)
    await machines.copy_disk(tiny / "disk.raw", tmp_path / "disk.raw", 2 * GIB)
    machine = machines.machine("one")
    await machine.power_on(guest.spec())
    yield machines, machine, guest
    await machine.power_off()
    assert not processes(str(tmp_path))


async def test_what_was_synced_outlives_power_cuts_and_the_guest_can_power_off(
    booted: tuple[QemuMachines, QemuMachine, Guest], tmp_path: Path
) -> None:
    machines, machine, guest = booted
    assert await guest.run("hostname; echo kept > /root/kept; sync") == "oven\n"
    assert b"tiny: instance iid-1 is oven" in machine.serial.read(0, 1 << 20)

    await machine.reset()
    assert await guest.run("cat /root/kept", user="root") == "kept\n"
    copy = tmp_path / "copy.raw"
    await machines.copy_disk(tmp_path / "disk.raw", copy, 3 * GIB)
    assert (copy.stat().st_size, copy.stat().st_blocks * 512 < GIB // 4) == (3 * GIB, True)

    await guest.run("poweroff")
    assert await asyncio.wait_for(machine.wait_off(), 60) is PowerOff.BY_GUEST


async def test_a_guests_reboot_is_no_power_off(booted: tuple[QemuMachines, QemuMachine, Guest]) -> None:
    _, machine, guest = booted
    boot_id = await guest.run("cat /proc/sys/kernel/random/boot_id; reboot")
    await guest.rebooted(boot_id)
    off = asyncio.create_task(machine.wait_off())
    await machine.power_off()
    assert await asyncio.wait_for(off, 10) is PowerOff.BY_REGION


async def test_a_killed_qemu_is_a_crash(booted: tuple[QemuMachines, QemuMachine, Guest], tmp_path: Path) -> None:
    _, machine, _ = booted
    await until(lambda: len(processes(f"{tmp_path}/disk.raw")) == 1)
    os.kill(processes(f"{tmp_path}/disk.raw")[0], signal.SIGKILL)
    assert await asyncio.wait_for(machine.wait_off(), 10) is PowerOff.CRASHED


async def test_a_refused_start_says_why(tmp_path: Path) -> None:
    guest = Guest(tmp_path)
    machine = QemuMachines("tcg", guest.address.port).machine("one")
    with pytest.raises(OSError, match=r"missing\.raw"):
        await machine.power_on(replace(guest.spec(), disks=(tmp_path / "missing.raw",)))
    assert await asyncio.wait_for(machine.wait_off(), 1) is PowerOff.CRASHED
