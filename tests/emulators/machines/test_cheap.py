from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from emulators.machines import PowerOff
from emulators.machines.cheap import CheapMachine, CheapMachines
from tests.emulators.machines.support import GIB, Guest, processes, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cheap machines need root's rights")


@pytest.fixture
async def off(tiny: Path, tmp_path: Path) -> AsyncIterator[tuple[CheapMachines, CheapMachine, Guest]]:
    directory = tmp_path / "a directory"
    directory.mkdir()
    guest = Guest(directory)
    machines = CheapMachines(ssh_port=guest.address.port)
    await machines.copy_disk(tiny / "disk.raw", directory / "disk.raw", GIB)
    machine = machines.machine("one")
    yield machines, machine, guest
    await machine.power_off()
    await machines.delete_disk(directory / "disk.raw")
    await machines.delete_disk(directory / "disk.raw")
    assert not processes(guest.address.host)
    assert not (directory / "disk.raw.root").exists()


async def test_life_of_a_machine_and_its_disk(off: tuple[CheapMachines, CheapMachine, Guest], tmp_path: Path) -> None:
    machines, machine, guest = off
    await machine.power_on(guest.spec())
    first = await guest.run("hostname; cat /proc/sys/kernel/random/boot_id", deadline=20)
    assert first.startswith("oven\n")
    assert await guest.run("echo kept > kept; id -un", user="baker", deadline=20) == "baker\n"
    assert b"is oven" in machine.serial.read(0, 1 << 20)

    await guest.run("reboot", deadline=20)
    await guest.rebooted(first.removeprefix("oven\n"), deadline=30)
    disk = guest.directory / "disk.raw"
    await machines.copy_disk(disk, tmp_path / "snapshot.raw", GIB)
    await machines.share_disk(tmp_path / "snapshot.raw", tmp_path / "image.raw", GIB)
    await machines.delete_disk(tmp_path / "snapshot.raw")
    await guest.run("echo changed > kept", user="baker", deadline=20)
    assert (tmp_path / "image.raw.root/home/baker/kept").read_text() == "kept\n"

    await guest.run("poweroff", deadline=20)
    assert await asyncio.wait_for(machine.wait_off(), 20) is PowerOff.BY_GUEST
    await machine.power_on(guest.spec())
    await guest.run("true", deadline=20)
    await machine.power_off()
    assert await machine.wait_off() is PowerOff.BY_REGION
    await machines.delete_disk(tmp_path / "image.raw")


async def test_slow_boots_and_banners(off: tuple[CheapMachines, CheapMachine, Guest]) -> None:
    _, machine, guest = off
    start = time.monotonic()
    await machine.power_on(guest.spec(boot_seconds=0.5, ssh_banner_delay=0.5))
    await guest.run("true", deadline=20)
    assert time.monotonic() - start > 1


async def test_a_boot_takes_as_long_as_it_was_told(off: tuple[CheapMachines, CheapMachine, Guest]) -> None:
    _, machine, guest = off
    start = time.monotonic()
    await machine.power_on(guest.spec(boot_seconds=1.5))
    await guest.until_listening()
    assert time.monotonic() - start > 1.4


async def test_an_ssh_server_that_refuses_drops_and_is_another_one(
    off: tuple[CheapMachines, CheapMachine, Guest],
) -> None:
    _, machine, guest = off
    await machine.power_on(guest.spec(ssh_refuses=2, ssh_drop_after=1, ssh_drops=1, ssh_impostor_from=4))
    await guest.until_listening()
    with pytest.raises((paramiko.SSHException, EOFError, OSError)):
        await asyncio.to_thread(guest.connect)

    def cut_off() -> bytes:
        with guest.connect() as client:
            _, output, _ = client.exec_command("echo begun; exec sleep 30", timeout=20)
            return output.read()

    assert await asyncio.to_thread(cut_off) in {b"", b"begun\n"}
    true, false = [await asyncio.to_thread(guest.host_key) for _ in range(2)]
    assert true != false


async def test_host_keys_can_be_new_after_each_boot(off: tuple[CheapMachines, CheapMachine, Guest]) -> None:
    _, machine, guest = off
    keys = []
    for _ in range(2):
        await machine.power_on(guest.spec(new_host_keys=True))
        await guest.until_listening()
        keys.append(await asyncio.to_thread(guest.host_key))
        await machine.power_off()
    assert keys[0] != keys[1]


async def test_a_guest_that_is_up_may_not_listen_and_be_slow_to_go(
    off: tuple[CheapMachines, CheapMachine, Guest],
) -> None:
    _, machine, guest = off
    await machine.power_on(guest.spec(ssh_down=True))
    await until(lambda: b"is oven" in machine.serial.read(0, 1 << 20))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(guest.address.host, guest.address.port)
    await machine.power_off()
    await machine.power_on(guest.spec(shutdown_seconds=1))
    start = time.monotonic()
    await guest.run("poweroff", deadline=20)
    assert await asyncio.wait_for(machine.wait_off(), 20) is PowerOff.BY_GUEST
    assert time.monotonic() - start > 1


async def test_a_machine_answers_on_all_its_addresses(off: tuple[CheapMachines, CheapMachine, Guest]) -> None:
    _, machine, guest = off
    second = f"127.78.{guest.address.host.split('.', 2)[2]}"
    await machine.power_on(replace(guest.spec(), more_addresses=(second,)))
    await guest.until_listening()
    for host in (guest.address.host, second):
        _, writer = await asyncio.open_connection(host, guest.address.port)
        writer.close()
        await writer.wait_closed()


async def test_what_no_machine_can_do_is_refused(off: tuple[CheapMachines, CheapMachine, Guest]) -> None:
    _, machine, guest = off
    with pytest.raises(OSError, match="boot_second"):
        await machine.power_on(guest.spec(boot_second=1))


async def test_refused_keys(off: tuple[CheapMachines, CheapMachine, Guest]) -> None:
    _, machine, guest = off
    await machine.power_on(guest.spec(refuses_auth=True))
    with pytest.raises(paramiko.AuthenticationException):
        await guest.run("true", deadline=20)


async def test_death(off: tuple[CheapMachines, CheapMachine, Guest]) -> None:
    _, machine, guest = off
    await machine.power_on(guest.spec(dies_after_seconds=0.2, never_boots=True))
    assert await asyncio.wait_for(machine.wait_off(), 10) is PowerOff.CRASHED
