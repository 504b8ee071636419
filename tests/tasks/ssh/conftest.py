from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from pydantic import ConfigDict, SecretStr

from emulators.machines.cheap import CheapMachine, CheapMachines
from tasks.ssh.guest import SshGuest
from tasks.ssh.options import SshOptions
from tasks.ssh.plan import Credentials, LogInPlan, OfferedKey
from tasks.ssh.resolve import log_in_plan
from tasks.ssh.temporary_key import public_line, temporary_key
from tests.emulators.machines.support import GIB, Guest, Key
from tests.tasks.ssh.openssh import USER, Host, Sshd

HostT = TypeVar("HostT", bound=Host)


class Oven:
    """A cheap machine, and who may log in to it."""

    def __init__(self, machine: CheapMachine, plan: Guest, tree: Path) -> None:
        self.machine = machine
        self.plan = plan
        self.tree = tree

    def guest(self, user: str = "root", **options: Any) -> SshGuest:
        return SshGuest(
            LogInPlan(
                self.plan.address.host,
                Credentials(user, (OfferedKey("the key", self.plan.key.private),)),
                self.plan.address.port,
                **options,
            )
        )


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


@asynccontextmanager
async def connection(oven: Oven) -> AsyncIterator[SshGuest]:
    """A connection to it, as root."""
    guest = oven.guest()
    await guest.connect(30)
    yield guest
    guest.close()


@pytest.fixture
async def guest(oven: Oven) -> AsyncIterator[SshGuest]:
    """What a build has."""
    async with connection(oven) as guest:
        yield guest


@pytest.fixture
async def looker(oven: Oven) -> AsyncIterator[SshGuest]:
    """A second connection, to look while something runs over the first one."""
    async with connection(oven) as looker:
        yield looker


class Options(SshOptions):
    """The options of the SSH communicator, and no others."""

    model_config = ConfigDict(extra="forbid")


class Kitchen:
    """Where a test sets up servers, and guests that are reached as options say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = uuid4()
        self.hosts: list[Host] = []
        self.guests: list[SshGuest] = []

    def sshd(self, *config: str, level: str = "DEBUG1") -> Sshd:
        """A server; the first one is the guest's."""
        return self.host(Sshd(self.path / f"host{len(self.hosts)}", *config, level=level))

    def host(self, host: HostT) -> HostT:
        self.hosts.append(host)
        return host

    async def plan(self, *, temporary_key: Any = None, host_key: Any = None, **options: Any) -> LogInPlan:
        given = {"ssh_username": USER, "ssh_port": self.hosts[0].port if self.hosts else 22, **options}
        return await log_in_plan(
            Options.model_validate(given), self.path, temporary_key=temporary_key, host_key=host_key
        )

    async def guest(self, **options: Any) -> SshGuest:
        guest = SshGuest((await self.plan(**options)).at("127.0.0.1"))
        self.guests.append(guest)
        return guest

    async def connected(self, *, timeout: float = 60, **options: Any) -> SshGuest:
        guest = await self.guest(**options)
        await guest.connect(timeout)
        return guest


@pytest.fixture
def kitchen(tmp_path: Path) -> Iterator[Kitchen]:
    kitchen = Kitchen(tmp_path)
    yield kitchen
    for guest in kitchen.guests:
        guest.close()
    for host in kitchen.hosts:
        host.end()
