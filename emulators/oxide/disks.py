"""Disks and snapshots.

Faults: `disk_faulted` on `disk_create` and `snapshot_create` leaves what was made in the state `faulted`; on
`disk_bulk_write_import` and `disk_finalize_import` the request fails with 500 and the disk is `faulted`; on
`instance_create` the request fails with 500 and its boot disk stays behind as `faulted`.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from emulators.oxide import errors, quotas
from emulators.oxide.bodies.storage import (
    BlankSource,
    DiskCreate,
    ImageSource,
    ImportSource,
    Local,
    SnapshotCreate,
    SnapshotSource,
)
from emulators.oxide.caller import Caller
from emulators.oxide.records import (
    Disk,
    DiskState,
    Project,
    Snapshot,
    SnapshotState,
    new_id,
    now,
)
from emulators.oxide.region import OxideRegion, Struck
from emulators.region.sources import GIB

_MAX_SIZE = 1023 * GIB


@dataclass(frozen=True)
class Plan:
    """A disk that is about to be made, and where its blocks come from."""

    disk: Disk
    source: Path | None
    state: DiskState
    """What it is once it is made."""


def plan(caller: Caller, project: Project, body: DiskCreate, *, instance_id: str | None = None) -> Plan:
    """Check everything that can be wrong with a disk before it is made.

    Raises:
        ApiError: size, name or source do not fit.
    """
    region = caller.region
    check_size(body.size)
    if region.disks.named(project.id, body.name):
        raise errors.already_exists("disk", body.name)
    disk = Disk(
        id=new_id(),
        name=body.name,
        description=body.description,
        project_id=project.id,
        size=body.size,
        block_size=512,
        disk_type="distributed",
        instance_id=instance_id,
    )
    state, source = DiskState.DETACHED, None
    if isinstance(body.disk_backend, Local):
        disk.disk_type = "local"
        disk.block_size = 4096
        return Plan(disk, source, state)
    match body.disk_backend.disk_source:
        case BlankSource(block_size=block_size):
            disk.block_size = block_size
        case ImportSource(block_size=block_size):
            disk.block_size = block_size
            state = DiskState.IMPORT_READY
        case ImageSource(image_id=image_id, read_only=read_only):
            image = caller.find(region.images, "image", image_id)
            if image.project_id not in {None, project.id}:
                raise errors.invalid_request("image does not belong to this project")
            _check_fits(body.size, "image", image.size)
            disk.image_id, disk.block_size, disk.read_only = image.id, image.block_size, read_only
            source = region.path(image)
        case SnapshotSource(snapshot_id=snapshot_id, read_only=read_only):
            snapshot = caller.find(region.snapshots, "snapshot", snapshot_id)
            if snapshot.project_id != project.id:
                raise errors.invalid_request("snapshot does not belong to this project")
            if snapshot.state is not SnapshotState.READY:
                raise errors.invalid_request(f"snapshot is not ready: it is {snapshot.state}")
            _check_fits(body.size, "snapshot", snapshot.size)
            disk.snapshot_id, disk.block_size, disk.read_only = snapshot.id, snapshot.block_size, read_only
            source = region.path(snapshot)
    return Plan(disk, source, state)


def check_size(size: int) -> None:
    """Refuse a disk size that is no whole number of 1 to 1023 GiB."""
    if size < GIB:
        raise errors.invalid_value("size", "total size must be at least 1 GiB")
    if size % GIB:
        raise errors.invalid_value("size", "total size must be a multiple of 1 GiB")
    if size > _MAX_SIZE:
        raise errors.invalid_value("size", "total size must be less than 1023 GiB")


def _check_fits(size: int, kind: str, least: int) -> None:
    if size < least:
        raise errors.invalid_request(f"disk size {size} must be greater than or equal to {kind} size {least}")


async def fill(region: OxideRegion, planned: Plan) -> None:
    """Make a disk's file."""
    target = region.path(planned.disk)
    if planned.source is None:
        await asyncio.to_thread(_make_blank, target, planned.disk.size)
    else:
        await region.machines.copy_disk(planned.source, target, planned.disk.size)


def _make_blank(path: Path, size: int) -> None:
    with path.open("wb") as file:
        os.ftruncate(file.fileno(), size)


async def create(caller: Caller, project: Project, body: DiskCreate, struck: Struck) -> Disk:
    """Make a disk of its own. It is there when the request ends.

    Raises:
        ApiError: as for `plan`; 507 for want of storage.
    """
    region, planned = caller.region, plan(caller, project, body)
    quotas.check_storage(region, project.silo_id, body.size)
    disk = planned.disk
    region.disks.save(disk)
    try:
        await asyncio.sleep(region.times.disk)
        await fill(region, planned)
    except BaseException:
        await discard(region, disk)
        raise
    settle(region, disk, DiskState.FAULTED if struck.by("disk_faulted") else planned.state)
    return disk


def settle(region: OxideRegion, disk: Disk, state: DiskState, instance_id: str | None = None) -> None:
    """Note a disk's new state, and which instance has it."""
    disk.state, disk.instance_id, disk.time_modified = state, instance_id, now()
    region.disks.save(disk)


async def discard(region: OxideRegion, thing: Disk | Snapshot) -> None:
    """Remove a disk or snapshot and its file, whatever its state."""
    path = region.path(thing)
    if isinstance(thing, Disk):
        region.disks.delete(thing.id)
    else:
        region.snapshots.delete(thing.id)
    await region.machines.delete_disk(path)


async def delete(region: OxideRegion, disk: Disk) -> None:
    """Delete a disk: only a detached or faulted one.

    Raises:
        ApiError: 400 in any other state.
    """
    if disk.state not in {DiskState.DETACHED, DiskState.FAULTED}:
        raise errors.invalid_request(f'disk cannot be deleted in state "{disk.state}"')
    await discard(region, disk)


async def create_snapshot(caller: Caller, project: Project, body: SnapshotCreate, struck: Struck) -> Snapshot:
    """Snapshot a disk as a power cut at this moment would leave it.

    Raises:
        ApiError: 503 unless the disk is attached or detached, 507 for want of storage.
    """
    region = caller.region
    disk = caller.find(region.disks, "disk", body.disk, project.id)
    if disk.project_id != project.id:
        raise errors.invalid_request("disk does not belong to this project")
    if disk.state not in {DiskState.ATTACHED, DiskState.DETACHED}:
        raise errors.unavailable()
    if disk.disk_type == "local":
        raise errors.invalid_request("cannot take a snapshot of a local disk")
    state = SnapshotState.FAULTED if struck.by("disk_faulted") else SnapshotState.READY
    return await snapshot(region, disk, body.name, body.description, state)


async def snapshot(
    region: OxideRegion, disk: Disk, name: str, description: str, state: SnapshotState = SnapshotState.READY
) -> Snapshot:
    """Make a snapshot of a disk in whatever state.

    Raises:
        ApiError: the name is taken; 507 for want of storage.
    """
    if region.snapshots.named(disk.project_id, name):
        raise errors.already_exists("snapshot", name)
    quotas.check_storage(region, region.silo_of(disk.project_id), disk.size)
    made = Snapshot(
        id=new_id(),
        name=name,
        description=description,
        project_id=disk.project_id,
        disk_id=disk.id,
        size=disk.size,
        block_size=disk.block_size,
    )
    region.snapshots.save(made)
    try:
        await asyncio.sleep(region.times.snapshot)
        await region.machines.copy_disk(region.path(disk), region.path(made), made.size)
    except BaseException:
        await discard(region, made)
        raise
    made.state, made.time_modified = state, now()
    region.snapshots.save(made)
    return made
