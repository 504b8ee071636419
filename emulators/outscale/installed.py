"""What is in a region from the start: the OMIs that come with it, and what others have left there."""

from __future__ import annotations

from emulators.machines.disks import copy_disk, delete_disk, make_blank
from emulators.outscale.images import ROOT_DEVICE
from emulators.outscale.records import (
    Image,
    ImageState,
    Mapping,
    Permissions,
    Snapshot,
    SnapshotState,
    Volume,
    VolumeState,
    new_id,
)
from emulators.outscale.region import VENDOR, OutscaleRegion
from emulators.region.sources import GIB, Source


async def install(region: OutscaleRegion, account_id: str, source: Source, *, public: bool) -> Image:
    """Make a source an OMI with a snapshot, unless it is one already. A changed file takes the former's place.

    An OMI of that name that a client made stays as it is. A public OMI's snapshot is its owner's alone, as in the
    cloud: who wants its blocks copies the OMI.
    """
    former = region.images.named(account_id, source.name)
    if former is not None:
        if former.source_mark in {source.mark, None}:
            return former
        for mapping in former.mappings:
            if mapping.snapshot_id is not None and (old := region.snapshots.get(mapping.snapshot_id)) is not None:
                region.snapshots.delete(old.id)
                delete_disk(region.path(old))
        region.images.delete(former.id)
    snapshot = _snapshot(account_id, source.gib, source.description)
    await copy_disk(source.disk, region.path(snapshot), snapshot.volume_size * GIB)
    region.snapshots.save(snapshot)
    image = _image(snapshot, source.name, Permissions(global_permission=public))
    image.source_mark = source.mark
    region.images.save(image)
    return image


def _snapshot(account_id: str, size: int, description: str) -> Snapshot:
    return Snapshot(
        id=new_id("snap"),
        account_id=account_id,
        volume_id=new_id("vol"),
        volume_size=size,
        description=description,
        state=SnapshotState.COMPLETED,
        progress=100,
    )


def _image(snapshot: Snapshot, name: str, permissions: Permissions) -> Image:
    return Image(
        id=new_id("ami"),
        name=name,
        account_id=snapshot.account_id,
        description=snapshot.description,
        root_device=ROOT_DEVICE,
        mappings=[Mapping(device=ROOT_DEVICE, snapshot_id=snapshot.id, size=snapshot.volume_size)],
        boot_modes=["legacy"],
        product_codes=["0001"],
        permissions=permissions,
        state=ImageState.AVAILABLE,
    )


def crowd(region: OutscaleRegion, number: int) -> None:
    """Fill the region, up to that number: public OMIs of its vendor, and volumes of the owner that no build made."""
    name = "crowd-{}".format
    if not any(region.images.named(VENDOR, name(n)) is None for n in range(number)):
        return
    snapshot = _snapshot(VENDOR, 1, "of a crowd")
    make_blank(region.path(snapshot), GIB)
    region.snapshots.save(snapshot)
    for n in range(number):
        if region.images.named(VENDOR, name(n)) is not None:
            continue
        region.images.save(_image(snapshot, name(n), Permissions(global_permission=True)))
        volume = Volume(
            id=new_id("vol"),
            account_id=region.owner.account_id,
            size=1,
            volume_type="standard",
            subregion=region.place.subregion,
            state=VolumeState.AVAILABLE,
            tags={"Name": name(n)},
        )
        make_blank(region.path(volume), GIB)
        region.volumes.save(volume)
