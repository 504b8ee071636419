"""Snapshots: sparse copies of volumes, as a power cut at that moment would leave them."""

from __future__ import annotations

import asyncio
import logging

from emulators.machines.disks import copy_disk, delete_disk
from emulators.outscale import bodies, errors, quotas
from emulators.outscale.accounts import Account
from emulators.outscale.permissions import change
from emulators.outscale.records import Snapshot, SnapshotState, Volume, VolumeState, new_id
from emulators.outscale.region import OutscaleRegion, slower
from emulators.region.faults import Struck
from emulators.region.sources import GIB

log = logging.getLogger(__name__)


def create(region: OutscaleRegion, account: Account, body: bodies.CreateSnapshot, struck: Struck) -> Snapshot:
    """Begin a snapshot of a volume, or a copy of a snapshot. A client token that was used before names what it made.

    Raises:
        ApiError: there is no such volume or snapshot, it is in no state for it, or the token was used for another.
    """
    source = _source(region, account, body)
    snapshot = _of_volume(account, source) if isinstance(source, Volume) else copy(account, source, source.description)
    snapshot.name = body.client_token
    snapshot.description = body.description or snapshot.description
    if body.client_token and (former := region.snapshots.named(account.account_id, body.client_token)):
        if any(getattr(former, name) != getattr(snapshot, name) for name in ("volume_id", "source_snapshot_id")):
            raise errors.invalid_value(errors.TOKEN_MISMATCH, "The ClientToken was used with other parameters.")
        return former
    begin(region, snapshot, source, struck)
    return snapshot


def begin(region: OutscaleRegion, snapshot: Snapshot, source: Volume | Snapshot, struck: Struck) -> None:
    """Begin to copy a new snapshot's blocks."""
    copies = int(isinstance(source, Snapshot))
    quotas.check(region, snapshot.account_id, snapshot_limit=1, snapshot_copy_limit=copies)
    region.snapshots.save(snapshot)
    ends = SnapshotState.ERROR if struck.by("snapshot_error") else SnapshotState.COMPLETED
    region.spawn(snapshot, make(region, snapshot, source, ends, slower(struck)))


def _of_volume(account: Account, volume: Volume) -> Snapshot:
    return Snapshot(id=new_id("snap"), account_id=account.account_id, volume_id=volume.id, volume_size=volume.size)


def copy(account: Account, original: Snapshot, description: str) -> Snapshot:
    """A new snapshot that is to be a copy."""
    return Snapshot(
        id=new_id("snap"),
        account_id=account.account_id,
        volume_id=original.volume_id,
        volume_size=original.volume_size,
        description=description,
        source_snapshot_id=original.id,
    )


def _source(region: OutscaleRegion, account: Account, body: bodies.CreateSnapshot) -> Volume | Snapshot:
    _check_form(body)
    if body.file_location is not None:
        raise errors.not_supported("This region has no buckets to import snapshots from.")
    if body.source_snapshot_id is not None:
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


def _check_form(body: bodies.CreateSnapshot) -> None:
    forms = {
        "VolumeId": body.volume_id is not None,
        "SourceSnapshotId, SourceRegionName": (body.source_snapshot_id or body.source_region_name) is not None,
        "FileLocation, SnapshotSize": body.file_location is not None or body.snapshot_size is not None,
    }
    given = [names for names, is_given in forms.items() if is_given]
    if len(given) > 1:
        raise errors.invalid_combination("; ".join(given))


def check_region(region: OutscaleRegion, name: str | None) -> None:
    """Refuse a copy from another region: the API copies within its own only."""
    if name is None:
        raise errors.missing_parameter("SourceRegionName")
    if name != region.place.region:
        raise errors.not_supported(f"SourceRegionName is '{region.place.region}' here.", errors.OTHER_REGION)


async def make(
    region: OutscaleRegion,
    snapshot: Snapshot,
    source: Volume | Snapshot,
    ends: SnapshotState = SnapshotState.COMPLETED,
    slower: float = 0,
) -> None:
    """Copy a snapshot's blocks; it is completed once that is done and the cloud's time is over."""
    state = ends
    snapshot.state = SnapshotState.PENDING
    region.snapshots.save(snapshot)
    try:
        await asyncio.gather(_copy(region, snapshot, source), asyncio.sleep(region.times.snapshot + slower))
    except (OSError, ValueError) as error:
        log.error("no file for %s: %s", snapshot.id, error)
        state = SnapshotState.ERROR
    snapshot.state, snapshot.progress = state, 100 if state is SnapshotState.COMPLETED else 0
    region.snapshots.save(snapshot)


async def _copy(region: OutscaleRegion, snapshot: Snapshot, source: Volume | Snapshot) -> None:
    async with region.lock(source):
        size = snapshot.volume_size * GIB
        await copy_disk(region.path(source), region.path(snapshot), size, may_have_grown=isinstance(source, Volume))


async def settle(region: OutscaleRegion, snapshot: Snapshot) -> None:
    """Finish a snapshot that a former process had begun, if its source is still there."""
    if not snapshot.is_being_made:
        return
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
    if snapshot.is_being_made:
        raise errors.wrong_state("snapshot", snapshot.id, snapshot.state)
    region.snapshots.delete(snapshot.id)
    region.spawn(snapshot, _remove(region, snapshot))


async def _remove(region: OutscaleRegion, snapshot: Snapshot) -> None:
    async with region.lock(snapshot):
        delete_disk(region.path(snapshot))
