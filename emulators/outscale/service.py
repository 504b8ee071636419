"""A serving region: state, devices and endpoints, from start to stop."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from emulators.outscale import accounts, images, installed, links, snapshots, volumes
from emulators.outscale.accounts import Account
from emulators.outscale.app import api_app
from emulators.outscale.control import outscale_control_app
from emulators.outscale.metadata import metadata_app
from emulators.outscale.records import ImageState, VolumeState
from emulators.outscale.region import VENDOR, OutscaleRegion, Place
from emulators.outscale.times import Times
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
    metadata: str = "127.0.0.1:0"
    sources: list[Source] = field(default_factory=list)
    public_sources: list[Source] = field(default_factory=list)
    place: Place = field(default_factory=Place)
    account: str | None = None
    other_accounts: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    """By account id."""
    times: Times = field(default_factory=Times)
    limits: dict[str, int] = field(default_factory=dict)
    """By quota."""
    rate: float | None = None
    call_rate: float | None = None
    crowd: int = 0
    """Public OMIs and volumes that are to be there, which no build has made."""
    devices: bool = True


@dataclass(frozen=True)
class Running:
    """A region that serves."""

    region: OutscaleRegion
    api: str
    control: str
    metadata: str


@asynccontextmanager
async def running(options: Options) -> AsyncIterator[Running]:
    """Serve a region for as long as the block runs; at its end no device of it is left.

    Raises:
        RegionError: another process serves from that state directory, an address cannot be had, or this is not root.
    """
    if options.devices and os.geteuid() != 0:
        raise RegionError(
            "linking a volume makes a block device of this machine, which takes root: run it with sudo, "
            "or with --no-devices to serve the API alone"
        )
    home = options.home
    home.make()
    with home.locked(), ExitStack() as sockets:
        former = home.recorded()
        api = sockets.enter_context(listen(options.listen, former.get("api", "").removesuffix("/api/v1")))
        control = sockets.enter_context(listen(options.control, former.get("control")))
        metadata = sockets.enter_context(listen(options.metadata, former.get("metadata")))
        region = OutscaleRegion(
            home.directory,
            options.place,
            _accounts(options),
            times=options.times,
            limits=options.limits,
            rate=options.rate,
            call_rate=options.call_rate,
            devices=options.devices,
        )
        try:
            await _settle(region)
            for source in options.sources:
                await installed.install(region, region.owner.account_id, source, public=False)
            for source in options.public_sources:
                await installed.install(region, VENDOR, source, public=True)
            installed.crowd(region, options.crowd)
            apps = [
                (api_app(region), api),
                (outscale_control_app(region), control),
                (metadata_app(options.place), metadata),
            ]
            async with serving(apps):
                yield Running(region, f"{url(api)}/api/v1", url(control), url(metadata))
        finally:
            await region.stop_jobs()
            await links.take_away(region)


def _accounts(options: Options) -> list[Account]:
    directory, region = options.home.directory, options.place.region

    def load(file: str, account_id: str | None) -> Account:
        path = directory / file
        account = accounts.load(path, account_id, region)
        alias = options.aliases.get(account.account_id)
        return accounts.load(path, account_id, region, alias) if alias else account

    others = [load(f"credentials-{account_id}.json", account_id) for account_id in options.other_accounts]
    return [load("credentials.json", options.account), *others]


async def _settle(region: OutscaleRegion) -> None:
    """Take up everything where a former process left it."""
    links.let_go_of_strangers(region)
    for snapshot in region.snapshots:
        await snapshots.settle(region, snapshot)
    for volume in region.volumes:
        if volume.link is not None:
            await links.settle(region, volume)
        elif volume.state is VolumeState.CREATING:
            region.spawn(volume, volumes.make(region, volume))
        elif volume.state is VolumeState.DELETING:
            region.spawn(volume, volumes.remove(region, volume))
    for image in region.images:
        if image.state is ImageState.PENDING:
            images.settle(region, image)


def ready_line(options: Options, served: Running) -> dict[str, Any]:
    """What a server says when it is ready."""
    return {
        "api": served.api,
        "control": served.control,
        "metadata": served.metadata,
        "credentials_file": str(options.home.directory / "credentials.json"),
        "region": options.place.region,
        "subregion": options.place.subregion,
        "vm_id": options.place.vm_id,
        "other_vms": sorted(options.place.other_vms),
        "pid": os.getpid(),
    }


async def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. One line of JSON on stdout says that the region is ready.

    Raises:
        RegionError: as for `running`.
    """
    with stop_signals() as stop:
        async with running(options) as served:
            ready = ready_line(options, served)
            options.home.record(ready)
            print(json.dumps(ready), flush=True)
            await stop.wait()
            log.info("stopping")
