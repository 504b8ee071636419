"""Linking volumes to the VMs that this machine plays: a link brings a block device, its end takes it away."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from emulators.machines.disks import copy_disk
from emulators.outscale import bodies, devices, errors
from emulators.outscale.accounts import Account
from emulators.outscale.devices import Device, NameTaken
from emulators.outscale.records import Link, LinkState, Vm, Volume, VolumeState
from emulators.outscale.region import OutscaleRegion, slower
from emulators.region.faults import Struck
from emulators.region.sources import GIB

log = logging.getLogger(__name__)

_POLL = 0.02
"""Seconds between two looks at the kernel: what becomes free or gets new partitions tells nobody."""

T = TypeVar("T")


def link(region: OutscaleRegion, account: Account, body: bodies.LinkVolume, struck: Struck) -> None:
    """Begin to link a volume.

    Raises:
        ApiError: the volume is not available, the VM is elsewhere, or the VM or this machine uses the device name.
    """
    volume = region.volume(account, body.volume_id)
    vm = region.vm(account, body.vm_id)
    if volume.state is not VolumeState.AVAILABLE:
        raise errors.wrong_state("volume", volume.id, volume.state)
    if volume.subregion != vm.subregion:
        raise errors.conflict(
            errors.SUBREGION_MISMATCH, f"'{volume.id}' is in {volume.subregion}, '{vm.id}' in {vm.subregion}"
        )
    _check_free(region, vm, body.device_name)
    held = _hold(region, body.device_name)
    volume.state, volume.link = VolumeState.IN_USE, Link(vm_id=vm.id, device=body.device_name)
    region.volumes.save(volume)
    hang = struck.by("link_hangs")
    delay = region.times.link + slower(struck) + (hang.number("seconds", 3600) if hang else 0)
    _let_name_go(region, volume)
    region.names[volume.id] = held
    region.spawn(volume, _attach(region, volume, volume.link, delay, fails=struck.by("link_fails") is not None))


def _hold(region: OutscaleRegion, name: str) -> int | None:
    """Keep a name from other regions of this machine, whose VM is the same one."""
    if not region.has_devices:
        return None
    try:
        return devices.hold(Path(name))
    except NameTaken:
        raise _conflict(name) from None


def _let_name_go(region: OutscaleRegion, volume: Volume) -> None:
    if (held := region.names.pop(volume.id, None)) is not None:
        os.close(held)


def _conflict(name: str) -> errors.ApiError:
    return errors.conflict(errors.DEVICE_CONFLICT, f"The VM has something else named '{name}'.")


def _check_free(region: OutscaleRegion, vm: Vm, name: str) -> None:
    """Refuse a device name that something has, or that is kept for a volume that is being linked."""
    holders = {other.link.vm_id for other in region.volumes if other.link and other.link.device == name}
    if vm.id in holders:
        raise errors.conflict(errors.DEVICE_IN_USE, f"The device '{name}' is in use.")
    if region.has_devices and holders:
        raise _conflict(name)


async def _attach(region: OutscaleRegion, volume: Volume, link: Link, delay: float, *, fails: bool = False) -> None:
    await asyncio.sleep(delay)
    if fails:
        _free(region, volume)
        return
    device = None
    if region.has_devices:
        try:
            device = await _whole(
                asyncio.to_thread(devices.attach, region.path(volume), Path(link.device)),
            )
        except (NameTaken, OSError) as error:
            log.error("%s cannot become %s: %r", volume.id, link.device, error)
            _free(region, volume)
            return
    _linked(region, volume, link, device)
    if device is not None:
        await _follow(device)


def _linked(region: OutscaleRegion, volume: Volume, link: Link, device: Device | None) -> None:
    if device is not None:
        region.devices[volume.id] = device
    _let_name_go(region, volume)
    link.state = LinkState.ATTACHED
    region.volumes.save(volume)


async def _follow(device: Device) -> None:
    while True:
        device.follow_partitions()
        await asyncio.sleep(_POLL)


def _free(region: OutscaleRegion, volume: Volume) -> None:
    region.devices.pop(volume.id, None)
    _let_name_go(region, volume)
    volume.link, volume.state = None, VolumeState.AVAILABLE
    region.volumes.save(volume)


def unlink(region: OutscaleRegion, account: Account, body: bodies.UnlinkVolume, struck: Struck) -> None:
    """Begin to unlink a volume. While something on the VM uses it the volume stays `detaching`, unless forced.

    Raises:
        ApiError: the volume is not linked; without force, also when it is not yet or no longer wholly so.
    """
    volume = region.volume(account, body.volume_id)
    if volume.link is None:
        raise errors.conflict(errors.VOLUME_NOT_IN_USE, f"The volume '{volume.id}' is not linked.")
    if volume.link.state is not LinkState.ATTACHED and not body.force_unlink:
        raise errors.wrong_state("volume", volume.id, volume.link.state)
    volume.link.state = LinkState.DETACHING
    region.volumes.save(volume)
    region.spawn(volume, _cut(region, volume) if body.force_unlink else _detach(region, volume, slower(struck)))


async def _detach(region: OutscaleRegion, volume: Volume, slower: float = 0) -> None:
    await asyncio.sleep(region.times.unlink + slower)
    device = await _device(region, volume)
    while device is not None and not await _whole(asyncio.to_thread(device.try_detach)):
        device.follow_partitions()
        await asyncio.sleep(_POLL)
    _free(region, volume)


async def _device(region: OutscaleRegion, volume: Volume) -> Device | None:
    # A link that was ended while it was being made has a device that nobody has noted.
    if volume.id not in region.devices and region.has_devices and volume.link is not None:
        found = await _whole(asyncio.to_thread(devices.adopt, region.path(volume), Path(volume.link.device)))
        if found is not None:
            region.devices[volume.id] = found
    return region.devices.get(volume.id)


async def _cut(region: OutscaleRegion, volume: Volume) -> None:
    device = await _device(region, volume)
    if device is not None:
        await _whole(asyncio.to_thread(device.cut))
        if device.is_attached():
            # Who still has it goes on with the old file, which nobody else will see again: as if pulled out.
            async with region.lock(volume):
                await _whole(copy_disk(region.path(volume), region.path(volume), volume.size * GIB))
    _free(region, volume)


async def settle(region: OutscaleRegion, volume: Volume) -> None:
    """Take up a link where a former process left it."""
    assert volume.link is not None
    link, device = volume.link, None
    if region.has_devices:
        try:
            device = await asyncio.to_thread(devices.adopt, region.path(volume), Path(link.device))
        except (NameTaken, OSError) as error:
            log.error("%s is no longer %s: %r", volume.id, link.device, error)
            _let_go(region, volume)
            _free(region, volume)
            return
    if device is not None:
        region.devices[volume.id] = device
    if link.state is LinkState.DETACHING:
        region.spawn(volume, _detach(region, volume))
    elif device is None:
        region.spawn(volume, _attach(region, volume, link, 0))
    else:
        _linked(region, volume, link, device)
        region.spawn(volume, _follow(device))


def let_go_of_strangers(region: OutscaleRegion) -> None:
    """Detach what a former process attached for a volume that is not linked any more."""
    if not region.has_devices:
        return
    linked = {region.path(volume) for volume in region.volumes if volume.link is not None}
    for loop, backing in devices.loops():
        if backing.is_relative_to(region.directory) and backing not in linked:
            devices.let_go(loop)


async def take_away(region: OutscaleRegion) -> None:
    """Take every device away, since the region ends. One in use has no name any more and goes with its last user."""
    for volume in region.volumes:
        if volume.link is None or not region.has_devices:
            continue
        await asyncio.to_thread(_let_go, region, volume)
    for volume in region.volumes:
        _let_name_go(region, volume)
    region.devices.clear()


def _let_go(region: OutscaleRegion, volume: Volume) -> None:
    assert volume.link is not None
    backing, node = region.path(volume), Path(volume.link.device)
    for loop, path in devices.loops():
        if path != backing:
            continue
        device = Device(node, backing, loop)
        if not device.try_detach():
            log.warning("%s is still in use: its device goes with the last user", node)
            device.cut()


async def _whole(work: Awaitable[T]) -> T:
    """Wait for work to its end even when this wait is cancelled: half a device is nobody's."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
