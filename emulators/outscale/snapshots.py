"""Snapshots: sparse copies of volumes, as a power cut at that moment would leave them."""

from __future__ import annotations

import asyncio
import logging

from emulators.machines.disks import copy_disk, delete_disk
from emulators.outscale import bodies, errors
from emulators.outscale.accounts import Account
from emulators.outscale.permissions import change
from emulators.outscale.records import Snapshot, SnapshotState, Volume, VolumeState, new_id
from emulators.outscale.region import OutscaleRegion
from emulators.region.faults import Struck
from emulators.region.sources import GIB

log = logging.getLogger(__name__)


def create(region: OutscaleRegion, account: Account, body: bodies.CreateSnapshot, struck: Struck) -> Snapshot:
    """Begin a snapshot of a volume, or a copy of a snapshot. A client token that was used before names what it made.

    Raises:
        ApiError: there is no such volume or snapshot, it is in no state for it, or the token was used for another.
    """
    if body.file_location is not None:
        raise errors.not_supported("This region has no buckets to import snapshots from.")
    source = _source(region, account, body)
    volume_id = source.id if isinstance(source, Volume) else source.volume_id
    if body.client_token and (former := region.snapshots.named(account.account_id, body.client_token)):
        if former.volume_id != volume_id:
            raise errors.invalid_value(errors.TOKEN_MISMATCH, "The ClientToken was used with other parameters.")
        return former
    snapshot = Snapshot(
        id=new_id("snap"),
        name=body.client_token,
        account_id=account.account_id,
        volume_id=volume_id,
        volume_size=source.size if isinstance(source, Volume) else source.volume_size,
        description=body.description,
        source_snapshot_id=body.source_snapshot_id,
    )
    region.snapshots.save(snapshot)
    ends = SnapshotState.ERROR if struck.by("snapshot_error") else None
    region.spawn(snapshot, make(region, snapshot, source, ends))
    return snapshot


def _source(region: OutscaleRegion, account: Account, body: bodies.CreateSnapshot) -> Volume | Snapshot:
    if body.source_snapshot_id is not None:
        if body.volume_id is not None:
            raise errors.invalid_value(errors.INVALID_PARAMETER_SET, "Either VolumeId or SourceSnapshotId")
        check_region(region, body.source_region_name)
        snapshot = region.snapshot(account, body.source_snapshot_id)
        if snapshot.state is not SnapshotState.COMPLETED:
            raise errors.wrong_state("snapshot", snapshot.id, snapshot.state)
        return snapshot
    if body.volume_id is None:
        raise errors.missing_parameter("VolumeId")
    volume = region.volume(account, body.volume_id)
    if volume.state not in {VolumeState.AVAILABLE, VolumeState.IN_USE}:
        raise errors.wrong_state("volume", volume.id, volume.state)
    return volume


def check_region(region: OutscaleRegion, name: str | None) -> None:
    """Refuse a copy from another region: the API copies within its own only."""
    if name is None:
        raise errors.missing_parameter("SourceRegionName")
    if name != region.place.region:
        raise errors.invalid_value(errors.INVALID_VALUE, f"SourceRegionName is '{region.place.region}' here")


async def make(
    region: OutscaleRegion, snapshot: Snapshot, source: Volume | Snapshot, ends: SnapshotState | None = None
) -> None:
    """Copy a snapshot's blocks; it is completed once that is done and the cloud's time is over."""
    state = ends or SnapshotState.COMPLETED
    try:
        await asyncio.gather(_copy(region, snapshot, source), asyncio.sleep(region.times.snapshot))
    except (OSError, ValueError) as error:
        log.error("no file for %s: %s", snapshot.id, error)
        state = SnapshotState.ERROR
    snapshot.state, snapshot.progress = state, 100 if state is SnapshotState.COMPLETED else 0
    region.snapshots.save(snapshot)


async def _copy(region: OutscaleRegion, snapshot: Snapshot, source: Volume | Snapshot) -> None:
    async with region.lock(source):
        await copy_disk(region.path(source), region.path(snapshot), snapshot.volume_size * GIB)


async def settle(region: OutscaleRegion, snapshot: Snapshot) -> None:
    """Finish a snapshot that a former process had begun, if its source is still there."""
    source: Volume | Snapshot | None
    if snapshot.source_snapshot_id is not None:
        source = region.snapshots.get(snapshot.source_snapshot_id)
    else:
        source = region.volumes.get(snapshot.volume_id)
    if source is None:
        snapshot.state = SnapshotState.ERROR
        region.snapshots.save(snapshot)
    else:
        region.spawn(snapshot, make(region, snapshot, source))


def update(region: OutscaleRegion, account: Account, body: bodies.UpdateSnapshot) -> Snapshot:
    """Change who else may make volumes of a snapshot."""
    snapshot = region.snapshot(account, body.snapshot_id, own=True)
    snapshot.permissions = change(snapshot.permissions, body.permissions_to_create_volume)
    region.snapshots.save(snapshot)
    return snapshot


def delete(region: OutscaleRegion, account: Account, snapshot_id: str) -> None:
    """Delete a snapshot that no OMI stands on.

    Raises:
        ApiError: one does, or the snapshot is still being made.
    """
    snapshot = region.snapshot(account, snapshot_id, own=True)
    for image in region.images:
        if any(mapping.snapshot_id == snapshot.id for mapping in image.mappings):
            raise errors.conflict(errors.BUSY, f"The snapshot '{snapshot.id}' is used by the OMI '{image.id}'.")
    if snapshot.state is SnapshotState.PENDING:
        raise errors.wrong_state("snapshot", snapshot.id, snapshot.state)
    region.snapshots.delete(snapshot.id)
    region.spawn(snapshot, _remove(region, snapshot))


async def _remove(region: OutscaleRegion, snapshot: Snapshot) -> None:
    async with region.lock(snapshot):
        delete_disk(region.path(snapshot))
