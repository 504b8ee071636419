from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from emulators.machines.cheap import CheapMachine, CheapMachines
from tasks.ssh.guest import SshGuest
from tasks.ssh.temporary_key import public_line, temporary_key
from tests.emulators.machines.support import GIB, Guest, Key


class Oven:
    """A cheap machine, and who may log in to it."""

    def __init__(self, machine: CheapMachine, plan: Guest, tree: Path) -> None:
        self.machine = machine
        self.plan = plan
        self.tree = tree

    def guest(self, user: str = "root", **options: int) -> SshGuest:
        return SshGuest(self.plan.address.host, self.plan.address.port, user, self.plan.key.private, **options)


@pytest.fixture
async def oven(tiny: Path, tmp_path: Path) -> AsyncIterator[Oven]:
    """A cheap machine that is on, with a temporary key."""
    if os.geteuid() != 0:
        pytest.skip("cheap machines need root's rights")
    private = temporary_key(SecretStr("oxide-token-1"), uuid4())
    plan = Guest(tmp_path / "machine", key=Key(private, public_line(private)))
    plan.directory.mkdir()
    machines = CheapMachines(ssh_port=plan.address.port, root=tiny / "root")
    await machines.copy_disk(tiny / "disk.raw", plan.directory / "disk.raw", GIB)
    machine = machines.machine("one")
    await machine.power_on(plan.spec())
    yield Oven(machine, plan, plan.directory / "disk.raw.root")
    await machine.power_off()
    await machines.delete_disk(plan.directory / "disk.raw")


@pytest.fixture
async def guest(oven: Oven) -> AsyncIterator[SshGuest]:
    """A connection to it, as root."""
    guest = oven.guest()
    await guest.connect(30)
    yield guest
    guest.close()
