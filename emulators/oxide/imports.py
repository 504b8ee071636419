"""Importing a disk's blocks: start, write, stop, finalize. The texts are the control plane's."""

from __future__ import annotations

import asyncio
import base64
import binascii
from pathlib import Path

from emulators.oxide import disks, errors
from emulators.oxide.bodies.storage import BulkWrite, FinalizeDisk
from emulators.oxide.records import Disk, DiskState
from emulators.oxide.region import OxideRegion, Struck

_MAX_WRITE = 512 * 1024


def start(region: OxideRegion, disk: Disk) -> None:
    """Begin bulk writes.

    Raises:
        ApiError: 400 unless the disk is ready for an import.
    """
    _move(region, disk, DiskState.IMPORT_READY, DiskState.IMPORTING_FROM_BULK_WRITES)


def stop(region: OxideRegion, disk: Disk) -> None:
    """End bulk writes; they can be begun again.

    Raises:
        ApiError: 400 unless they were begun.
    """
    _move(region, disk, DiskState.IMPORTING_FROM_BULK_WRITES, DiskState.IMPORT_READY)


def _move(region: OxideRegion, disk: Disk, before: DiskState, after: DiskState) -> None:
    if disk.state is not before:
        raise errors.invalid_request(f'cannot set disk in state {_debug(disk)} to "{after}"')
    disks.settle(region, disk, after)


async def write(region: OxideRegion, disk: Disk, body: BulkWrite, struck: Struck) -> None:
    """Write some blocks.

    Raises:
        ApiError: 400 unless bulk writes were begun, and for blocks that are too many, outside or not whole.
    """
    if disk.state is not DiskState.IMPORTING_FROM_BULK_WRITES:
        raise errors.invalid_request(f"cannot import blocks with a bulk write for disk in state {_debug(disk)}")
    try:
        data = base64.b64decode(body.base64_encoded_data, validate=True)
    except (ValueError, binascii.Error) as error:
        raise errors.invalid_request(f"error base64 decoding data: {error}") from None
    if len(data) > _MAX_WRITE:
        raise errors.invalid_request(f"data length {len(data)} exceeds the maximum of {_MAX_WRITE} bytes")
    if body.offset % disk.block_size or len(data) % disk.block_size:
        raise errors.invalid_request(f"offset and data length must be multiples of block size {disk.block_size}")
    if body.offset + len(data) > disk.size:
        raise errors.invalid_request(f"offset {body.offset} with {len(data)} bytes is beyond the end of the disk")
    _fault(region, disk, struck)
    await asyncio.to_thread(_write, region.path(disk), body.offset, data)


def _write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


async def finalize(region: OxideRegion, disk: Disk, body: FinalizeDisk, struck: Struck) -> None:
    """End an import: the disk is `detached`, with a snapshot of it if one is named.

    Raises:
        ApiError: 400 unless the disk is ready for an import; as for a snapshot.
    """
    if disk.state is not DiskState.IMPORT_READY:
        raise errors.invalid_request(f"cannot finalize disk in state {_debug(disk)}")
    _fault(region, disk, struck)
    disks.settle(region, disk, DiskState.FINALIZING)
    try:
        if body.snapshot_name is not None:
            await disks.snapshot(region, disk, body.snapshot_name, f"snapshot of finalized disk {disk.name}")
    except BaseException:
        disks.settle(region, disk, DiskState.IMPORT_READY)
        raise
    disks.settle(region, disk, DiskState.DETACHED)


def _fault(region: OxideRegion, disk: Disk, struck: Struck) -> None:
    if struck.by("disk_faulted"):
        disks.settle(region, disk, DiskState.FAULTED)
        raise errors.internal()


def _debug(disk: Disk) -> str:
    """A disk's state as the control plane's debug output names it."""
    state = "".join(word.capitalize() for word in disk.state.split("_"))
    return f"{state}({disk.instance_id})" if disk.instance_id else state
