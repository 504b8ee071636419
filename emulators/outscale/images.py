"""OMIs: registered from snapshots, copied, and those that come with the region."""

from __future__ import annotations

import asyncio
import logging

from emulators.machines.disks import copy_disk, delete_disk
from emulators.outscale import bodies, errors
from emulators.outscale.accounts import Account
from emulators.outscale.permissions import change
from emulators.outscale.records import (
    Image,
    ImageState,
    Mapping,
    Permissions,
    Snapshot,
    SnapshotState,
    new_id,
)
from emulators.outscale.region import OutscaleRegion
from emulators.outscale.snapshots import check_region, make
from emulators.region.faults import Struck
from emulators.region.sources import GIB, Source

log = logging.getLogger(__name__)

ROOT_DEVICE = "/dev/sda1"


def create(region: OutscaleRegion, account: Account, body: bodies.CreateImage, struck: Struck) -> Image:
    """Begin an OMI: registered from snapshots, or a copy of another one.

    Raises:
        ApiError: the name is taken, a snapshot or the source does not fit, or this region has no such way.
    """
    if body.vm_id is not None or body.file_location is not None:
        raise errors.not_supported("This region makes OMIs of snapshots and of other OMIs only.")
    image = _copy(region, account, body) if body.source_image_id is not None else _register(region, account, body)
    region.images.save(image)
    region.spawn(image, _finish(region, image, fails=struck.by("image_failed") is not None))
    return image


def _register(region: OutscaleRegion, account: Account, body: bodies.CreateImage) -> Image:
    if body.image_name is None:
        raise errors.missing_parameter("ImageName")
    if body.root_device_name is None:
        raise errors.missing_parameter("RootDeviceName")
    if not body.block_device_mappings:
        raise errors.missing_parameter("BlockDeviceMappings")
    mappings = [_mapping(region, account, mapping) for mapping in body.block_device_mappings]
    roots = [mapping for mapping in mappings if mapping.device == body.root_device_name]
    if len(roots) != 1 or roots[0].snapshot_id is None:
        raise _bad_mapping(f"exactly one has the device '{body.root_device_name}', and a snapshot")
    _check_free(region, account, body.image_name)
    return Image(
        id=new_id("ami"),
        name=body.image_name,
        account_id=account.account_id,
        description=body.description,
        architecture=body.architecture,
        root_device=body.root_device_name,
        mappings=mappings,
        boot_modes=body.boot_modes or ["legacy"],
        product_codes=body.product_codes,
        tpm_mandatory=body.tpm_mandatory,
    )


def _bad_mapping(details: str) -> errors.ApiError:
    return errors.invalid_value(errors.INVALID_MAPPING, f"BlockDeviceMappings: {details}")


def _mapping(region: OutscaleRegion, account: Account, body: bodies.BlockDeviceMapping) -> Mapping:
    if body.device_name is None:
        raise _bad_mapping("each has a DeviceName")
    if body.bsu is None:
        return Mapping(device=body.device_name, virtual_device=body.virtual_device_name or "ephemeral0")
    size = body.bsu.volume_size
    if body.bsu.snapshot_id is not None:
        snapshot = region.snapshot(account, body.bsu.snapshot_id)
        if snapshot.state is not SnapshotState.COMPLETED:
            raise errors.wrong_state("snapshot", snapshot.id, snapshot.state)
        size = snapshot.volume_size if size is None else size
        if size < snapshot.volume_size:
            raise errors.invalid_value(errors.INVALID_VOLUME_SIZE, f"VolumeSize is at least {snapshot.volume_size}")
    elif size is None:
        raise _bad_mapping(f"'{body.device_name}' has neither SnapshotId nor VolumeSize")
    return Mapping(
        device=body.device_name,
        snapshot_id=body.bsu.snapshot_id,
        size=size,
        volume_type=body.bsu.volume_type,
        iops=body.bsu.iops,
        delete_on_vm_deletion=body.bsu.delete_on_vm_deletion,
    )


def _copy(region: OutscaleRegion, account: Account, body: bodies.CreateImage) -> Image:
    assert body.source_image_id is not None
    check_region(region, body.source_region_name)
    source = region.image(account, body.source_image_id)
    if source.state is not ImageState.AVAILABLE:
        raise errors.wrong_state("image", source.id, source.state)
    name = body.image_name or source.name
    _check_free(region, account, name)
    image = source.model_copy(
        deep=True,
        update={
            "id": new_id("ami"),
            "name": name,
            "account_id": account.account_id,
            "description": body.description or source.description,
            "permissions": Permissions(),
            "state": ImageState.PENDING,
            "source_mark": None,
            "tags": {},
        },
    )
    for mapping in image.mappings:
        original = region.snapshots.get(mapping.snapshot_id or "")
        if original is not None:
            mapping.snapshot_id = _copied(region, account, original, f"Copied for {image.id}").id
    return image


def _copied(region: OutscaleRegion, account: Account, original: Snapshot, description: str) -> Snapshot:
    snapshot = Snapshot(
        id=new_id("snap"),
        account_id=account.account_id,
        volume_id=original.volume_id,
        volume_size=original.volume_size,
        description=description,
        source_snapshot_id=original.id,
    )
    region.snapshots.save(snapshot)
    region.spawn(snapshot, make(region, snapshot, original))
    return snapshot


def _check_free(region: OutscaleRegion, account: Account, name: str) -> None:
    if region.images.named(account.account_id, name):
        raise errors.conflict(errors.DUPLICATE_NAME, f"The account has an OMI named '{name}' already.")


async def _finish(region: OutscaleRegion, image: Image, *, fails: bool = False) -> None:
    await asyncio.sleep(region.times.image)
    while pending := [s for s in _snapshots(region, image) if s.state is SnapshotState.PENDING]:
        log.debug("%s waits for %s", image.id, pending[0].id)
        await asyncio.sleep(0.02)
    whole = all(snapshot.state is SnapshotState.COMPLETED for snapshot in _snapshots(region, image))
    image.state = ImageState.AVAILABLE if whole and not fails else ImageState.FAILED
    if image.state is ImageState.FAILED:
        image.state_comment = "The OMI could not be made."
    region.images.save(image)


def _snapshots(region: OutscaleRegion, image: Image) -> list[Snapshot]:
    found = (region.snapshots.get(mapping.snapshot_id or "") for mapping in image.mappings)
    return [snapshot for snapshot in found if snapshot is not None]


def settle(region: OutscaleRegion, image: Image) -> None:
    """Finish an OMI that a former process had begun."""
    region.spawn(image, _finish(region, image))


def update(region: OutscaleRegion, account: Account, body: bodies.UpdateImage) -> Image:
    """Change an OMI's description, product codes, or who else may launch VMs from it."""
    image = region.image(account, body.image_id, own=True)
    if body.permissions_to_launch is not None:
        image.permissions = change(image.permissions, body.permissions_to_launch)
    if body.description is not None:
        image.description = body.description
    if body.product_codes is not None:
        image.product_codes = body.product_codes
    region.images.save(image)
    return image


def delete(region: OutscaleRegion, account: Account, image_id: str) -> None:
    """Delete an OMI. Its snapshots stay."""
    image = region.image(account, image_id, own=True)
    region.images.delete(image.id)
    region.forget(image)


async def install(region: OutscaleRegion, account_id: str, source: Source, *, public: bool) -> Image:
    """Make a source an OMI with a snapshot, unless it is one already. A changed file takes the former's place.

    An OMI of that name that a client made stays as it is.
    """
    former = region.images.named(account_id, source.name)
    if former is not None:
        if former.source_mark in {source.mark, None}:
            return former
        for old in _snapshots(region, former):
            region.snapshots.delete(old.id)
            delete_disk(region.path(old))
        region.images.delete(former.id)
    permissions = Permissions(global_permission=public)
    snapshot = Snapshot(
        id=new_id("snap"),
        account_id=account_id,
        volume_id=new_id("vol"),
        volume_size=source.gib,
        description=source.description,
        permissions=permissions,
        state=SnapshotState.COMPLETED,
        progress=100,
    )
    await copy_disk(source.disk, region.path(snapshot), snapshot.volume_size * GIB)
    region.snapshots.save(snapshot)
    image = Image(
        id=new_id("ami"),
        name=source.name,
        account_id=account_id,
        description=source.description,
        root_device=ROOT_DEVICE,
        mappings=[Mapping(device=ROOT_DEVICE, snapshot_id=snapshot.id, size=snapshot.volume_size)],
        boot_modes=["legacy"],
        product_codes=["0001"],
        permissions=permissions,
        state=ImageState.AVAILABLE,
        source_mark=source.mark,
    )
    region.images.save(image)
    return image
