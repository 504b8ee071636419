"""Machines die with the emulator, even when it has no time to end them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.emulators.machines.support import GIB, Guest, processes, until

_EMULATOR = """
import asyncio, sys
from pathlib import Path
from emulators.machines import CloudInit, MachineSpec
from emulators.machines.cheap import CheapMachines
from emulators.machines.qemu import QemuMachines

async def main(kind, disk, address, port):
    machines = CheapMachines(ssh_port=port) if kind == "cheap" else QemuMachines("tcg", port)
    machine = machines.machine("one")
    init = CloudInit("iid", "oven")
    await machine.power_on(MachineSpec("one", 1 << 28, 1, (disk,), init, address, disk.parent / "work"))
    print("on", flush=True)
    await machine.wait_off()

asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
"""


@pytest.mark.parametrize("kind", ["cheap", "qemu"])
async def test_a_killed_emulator_leaves_nothing(kind: str, tiny: Path, tmp_path: Path) -> None:
    if kind == "cheap" and os.geteuid() != 0:
        pytest.skip("cheap machines need root's rights")
    from emulators.machines.cheap import CheapMachines

    guest = Guest(tmp_path)
    machines = CheapMachines()
    disk = tmp_path / "disk.raw"
    await machines.copy_disk(tiny / "disk.raw", disk, GIB)
    argv = [sys.executable, "-c", _EMULATOR, kind, str(disk), guest.address.host, str(guest.address.port)]
    mine = f"{guest.address.host}:{guest.address.port}"
    emulator = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert emulator.stdout is not None
    assert await asyncio.wait_for(emulator.stdout.readline(), 30) == b"on\n"
    await until(lambda: bool(processes(mine)))
    emulator.kill()
    await emulator.wait()
    await until(lambda: not processes(mine) and not processes(str(tmp_path)))
    await machines.delete_disk(disk)
