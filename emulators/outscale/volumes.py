"""BSU volumes. `links` makes them devices of the VM."""

from __future__ import annotations

import asyncio
import logging
import os

from emulators.machines.disks import copy_disk, delete_disk, make_blank
from emulators.outscale import bodies, errors, quotas
from emulators.outscale.accounts import Account
from emulators.outscale.records import Snapshot, SnapshotState, Volume, VolumeState, VolumeType, new_id
from emulators.outscale.region import OutscaleRegion, slower
from emulators.region.faults import Struck
from emulators.region.sources import GIB

log = logging.getLogger(__name__)

_MAX_SIZE, _MAX_IOPS, _MAX_IOPS_PER_GIB = 14901, 13000, 300


def create(region: OutscaleRegion, account: Account, body: bodies.CreateVolume, struck: Struck) -> Volume:
    """Begin a volume: blank, or of a snapshot. A client token that was used before names what it made then.

    Raises:
        ApiError: subregion, size, type or snapshot do not fit, or the token was used with other parameters.
    """
    if body.subregion_name not in region.place.subregions:
        raise errors.no_such("subregion", body.subregion_name)
    snapshot = _source(region, account, body.snapshot_id)
    least = snapshot.volume_size if snapshot else 1
    size = body.size if body.size is not None or snapshot is None else least
    if size is None:
        raise errors.missing_parameter("Size")
    check_size(size, least)
    volume = Volume(
        id=new_id("vol"),
        name=body.client_token,
        account_id=account.account_id,
        size=size,
        volume_type=body.volume_type,
        iops=provisioned(body.volume_type, body.iops, size),
        snapshot_id=body.snapshot_id,
        subregion=body.subregion_name,
    )
    if body.client_token and (former := region.volumes.named(account.account_id, body.client_token)):
        if any(getattr(former, name) != getattr(volume, name) for name in ("volume_type", "snapshot_id", "subregion")):
            raise errors.invalid_value(errors.TOKEN_MISMATCH, "The ClientToken was used with other parameters.")
        return former
    quotas.check_volume(region, account.account_id, volume)
    region.volumes.save(volume)
    ends = VolumeState.ERROR if struck.by("volume_error") else VolumeState.AVAILABLE
    region.spawn(volume, make(region, volume, ends, slower(struck)))
    return volume


def _source(region: OutscaleRegion, account: Account, snapshot_id: str | None) -> Snapshot | None:
    if snapshot_id is None:
        return None
    snapshot = region.snapshot(account, snapshot_id)
    if snapshot.state is not SnapshotState.COMPLETED:
        raise errors.wrong_state("snapshot", snapshot.id, snapshot.state)
    return snapshot


def check_size(size: int, least: int) -> None:
    """Refuse a size in GiB that no volume may have.

    Raises:
        ApiError: it is too big, or smaller than what is to be in it.
    """
    if not least <= size <= _MAX_SIZE:
        raise errors.invalid_value(
            errors.INVALID_VOLUME_SIZE, f"Size is {least} to {_MAX_SIZE} GiB here, and not {size}"
        )


def provisioned(volume_type: VolumeType, iops: int | None, size: int) -> int | None:
    """The IOPS of a volume that a client asks for. Clients in use send 0 with types that have none.

    Raises:
        ApiError: the type has no such number, or lacks one, or it is too high.
    """
    if volume_type != "io1":
        if iops:
            raise errors.invalid_value(errors.INVALID_IOPS, "Iops is for io1 volumes only")
        return None
    if iops is None:
        raise errors.missing_parameter("Iops")
    if not 1 <= iops <= min(_MAX_IOPS, _MAX_IOPS_PER_GIB * size):
        raise errors.invalid_value(
            errors.INVALID_IOPS, f"Iops is at most {_MAX_IOPS}, and {_MAX_IOPS_PER_GIB} for each GiB"
        )
    return iops


async def make(
    region: OutscaleRegion, volume: Volume, ends: VolumeState = VolumeState.AVAILABLE, slower: float = 0
) -> None:
    """Make a volume's file; the volume is available once that is done and the cloud's time is over."""
    state = ends
    try:
        await asyncio.gather(_fill(region, volume), asyncio.sleep(region.times.volume + slower))
    except (OSError, ValueError) as error:
        log.error("no file for %s: %s", volume.id, error)
        state = VolumeState.ERROR
    volume.state = state
    region.volumes.save(volume)


async def _fill(region: OutscaleRegion, volume: Volume) -> None:
    snapshot = region.snapshots.get(volume.snapshot_id or "")
    if volume.snapshot_id is None:
        make_blank(region.path(volume), volume.size * GIB)
    elif snapshot is None:
        raise OSError(f"{volume.snapshot_id} is gone")
    else:
        async with region.lock(snapshot):
            await copy_disk(region.path(snapshot), region.path(volume), volume.size * GIB)


def update(region: OutscaleRegion, account: Account, body: bodies.UpdateVolume) -> Volume:
    """Grow a volume, or change its type. It is done when the call returns."""
    volume = region.volume(account, body.volume_id)
    if volume.state not in {VolumeState.AVAILABLE, VolumeState.IN_USE}:
        raise errors.wrong_state("volume", volume.id, volume.state)
    if body.size is None and body.volume_type is None and body.iops is None:
        raise errors.missing_parameter("Size, VolumeType or Iops")
    changed = volume.model_copy()
    changed.size = volume.size if body.size is None else body.size
    changed.volume_type = body.volume_type or volume.volume_type
    check_size(changed.size, least=volume.size)
    kept = volume.iops if changed.volume_type == "io1" and body.iops is None else body.iops
    changed.iops = provisioned(changed.volume_type, kept, changed.size)
    quotas.check_volume(region, account.account_id, changed, volume)
    if changed.size > volume.size:
        os.truncate(region.path(volume), changed.size * GIB)
        if device := region.devices.get(volume.id):
            device.grow()
    volume.size, volume.volume_type, volume.iops = changed.size, changed.volume_type, changed.iops
    region.volumes.save(volume)
    return volume


def delete(region: OutscaleRegion, account: Account, volume_id: str, struck: Struck) -> None:
    """Begin to delete a volume that is not linked.

    Raises:
        ApiError: it is linked, or neither available nor in error.
    """
    volume = region.volume(account, volume_id)
    if volume.link is not None or volume.state not in {VolumeState.AVAILABLE, VolumeState.ERROR}:
        raise errors.wrong_state("volume", volume.id, volume.state)
    volume.state = VolumeState.DELETING
    region.volumes.save(volume)
    region.spawn(volume, remove(region, volume, slower(struck)))


async def remove(region: OutscaleRegion, volume: Volume, slower: float = 0) -> None:
    """Remove a volume and its file, after what still reads it."""
    await asyncio.sleep(region.times.delete + slower)
    async with region.lock(volume):
        delete_disk(region.path(volume))
    region.volumes.delete(volume.id)
