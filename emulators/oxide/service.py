"""A serving region: state, machines and endpoints, from start to stop."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from emulators.machines import Machines
from emulators.machines.choose import choose
from emulators.oxide import beginnings, images, recovery
from emulators.oxide.app import api_app
from emulators.oxide.control import oxide_control_app
from emulators.oxide.power import Power
from emulators.oxide.records import Role
from emulators.oxide.region import Identity, OxideRegion, Times
from emulators.oxide.routes import OPERATIONS
from emulators.region.addresses import usable_ssh_port
from emulators.region.home import Home, RegionError
from emulators.region.server import listen, serving, stop_signals, url
from emulators.region.sources import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What a region is started with."""

    home: Home
    listen: str = "127.0.0.1:0"
    control: str = "127.0.0.1:0"
    machines: str = "auto"
    sources: list[Source] = field(default_factory=list)
    ssh_port: int | None = None
    project: str = "bakery"
    network: IPv4Network | None = None
    users: list[tuple[str, str, Role]] = field(default_factory=list)
    """Silo, name and role of users to make beside the first."""
    times: Times = field(default_factory=Times)


@dataclass(frozen=True)
class Running:
    """A region that serves."""

    region: OxideRegion
    api: str
    control: str


@asynccontextmanager
async def running(options: Options, machines: Callable[[int], Awaitable[Machines]]) -> AsyncIterator[Running]:
    """Serve a region for as long as the block runs; at its end every machine is off.

    Args:
        options: what it is started with.
        machines: makes its machines, given the SSH port of all guests.

    Raises:
        RegionError: another process serves from that state directory, or an address cannot be had.
    """
    home = options.home
    home.make()
    with home.locked():
        former = home.recorded()
        api = listen(options.listen, former.get("api"))
        control = listen(options.control, former.get("control"))
        try:
            identity = Identity.of(home.directory, options.network)
            ssh_port = options.ssh_port or usable_ssh_port(IPv4Network(identity.network))
            region = OxideRegion(
                home.directory,
                identity,
                await machines(ssh_port),
                ssh_port=ssh_port,
                times=options.times,
            )
            async with _in_order(region, options) as power:
                apps = [(api_app(region, power, OPERATIONS), api), (oxide_control_app(region, power), control)]
                async with serving(apps):
                    yield Running(region, url(api), url(control))
        finally:
            _close(api, control)


@asynccontextmanager
async def _in_order(region: OxideRegion, options: Options) -> AsyncIterator[Power]:
    beginnings.make(region, options.project, options.users)
    for source in options.sources:
        await images.install(region, source)
    power = Power(region)
    try:
        await recovery.settle(region, power)
        yield power
    finally:
        await power.close()


def _close(*sockets: socket.socket) -> None:
    for sock in sockets:
        sock.close()


def ready_line(options: Options, served: Running) -> dict[str, Any]:
    """What a server says when it is ready."""
    region = served.region
    return {
        "api": served.api,
        "control": served.control,
        "token_file": str(region.token_file),
        "token_files": {
            f"{silo}/{name}": str(beginnings.token_file(region, silo, name)) for silo, name, _ in options.users
        },
        "project": options.project,
        "ssh_port": region.ssh_port,
        "machines": region.machines.name,
        "pid": os.getpid(),
    }


async def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. One line of JSON on stdout says that the region is ready.

    Raises:
        RegionError: this host cannot run such machines, or as for `running`.
    """

    async def machines(ssh_port: int) -> Machines:
        try:
            return await choose(options.machines, ssh_port=ssh_port)
        except (OSError, ImportError) as error:
            raise RegionError(f"no {options.machines} machines here: {error}") from error

    with stop_signals() as stop:
        async with running(options, machines) as served:
            ready = ready_line(options, served)
            options.home.record(ready)
            print(json.dumps(ready), flush=True)
            await stop.wait()
            log.info("stopping")
            sys.stdout.flush()
