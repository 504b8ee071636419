"""Images, disks and snapshots."""

from __future__ import annotations

from emulators.oxide import disks, images, imports, wire
from emulators.oxide.bodies.base import parse
from emulators.oxide.bodies.storage import BulkWrite, DiskCreate, FinalizeDisk, ImageCreate, SnapshotCreate
from emulators.oxide.calls import Call, Operations
from emulators.oxide.records import Disk, Snapshot

OPERATIONS = Operations()
_operation = OPERATIONS.add


@_operation("image_list", "GET", "/v1/images")
async def _image_list(call: Call) -> wire.Json:
    scope = call.project.id if call.named_project is not None else call.caller.user.silo_id
    return wire.page(call.region.images, scope, call.query, wire.image)


@_operation("image_create", "POST", "/v1/images", 201)
async def _image_create(call: Call) -> wire.Json:
    project = call.project if call.named_project is not None else None
    return wire.image(await images.create(call.caller, project, parse(ImageCreate, call.body)))


@_operation("image_view", "GET", "/v1/images/{image}")
async def _image_view(call: Call) -> wire.Json:
    return wire.image(images.select(call.caller, call.path["image"], call.named_project))


@_operation("image_delete", "DELETE", "/v1/images/{image}", 204)
async def _image_delete(call: Call) -> None:
    await images.delete(call.region, images.select(call.caller, call.path["image"], call.named_project))


@_operation("image_promote", "POST", "/v1/images/{image}/promote", 202)
async def _image_promote(call: Call) -> wire.Json:
    image = images.select(call.caller, call.path["image"], call.named_project)
    images.promote(call.region, image)
    return wire.image(image)


@_operation("image_demote", "POST", "/v1/images/{image}/demote", 202)
async def _image_demote(call: Call) -> wire.Json:
    # Here alone `project` says where the image goes, so it stands beside an id too.
    project = call.project
    image = images.select(call.caller, call.path["image"], None)
    images.demote(call.region, image, project)
    return wire.image(image)


# Disks and snapshots


def _disk(call: Call) -> Disk:
    return call.selected(call.region.disks, "disk", "disk")


@_operation("disk_list", "GET", "/v1/disks")
async def _disk_list(call: Call) -> wire.Json:
    return wire.page(call.region.disks, call.project.id, call.query, wire.disk)


@_operation("disk_create", "POST", "/v1/disks", 201)
async def _disk_create(call: Call) -> wire.Json:
    project, body = call.project, parse(DiskCreate, call.body)
    return wire.disk(await disks.create(call.caller, project, body, call.struck))


@_operation("disk_view", "GET", "/v1/disks/{disk}")
async def _disk_view(call: Call) -> wire.Json:
    return wire.disk(_disk(call))


@_operation("disk_delete", "DELETE", "/v1/disks/{disk}", 204)
async def _disk_delete(call: Call) -> None:
    await disks.delete(call.region, _disk(call))


@_operation("disk_bulk_write_import_start", "POST", "/v1/disks/{disk}/bulk-write-start", 204)
async def _bulk_write_start(call: Call) -> None:
    imports.start(call.region, _disk(call))


@_operation("disk_bulk_write_import", "POST", "/v1/disks/{disk}/bulk-write", 204, max_body=8 << 20)
async def _bulk_write(call: Call) -> None:
    await imports.write(call.region, _disk(call), parse(BulkWrite, call.body), call.struck)


@_operation("disk_bulk_write_import_stop", "POST", "/v1/disks/{disk}/bulk-write-stop", 204)
async def _bulk_write_stop(call: Call) -> None:
    imports.stop(call.region, _disk(call))


@_operation("disk_finalize_import", "POST", "/v1/disks/{disk}/finalize", 204)
async def _finalize(call: Call) -> None:
    await imports.finalize(call.region, _disk(call), parse(FinalizeDisk, call.body), call.struck)


def _snapshot(call: Call) -> Snapshot:
    return call.selected(call.region.snapshots, "snapshot", "snapshot")


@_operation("snapshot_list", "GET", "/v1/snapshots")
async def _snapshot_list(call: Call) -> wire.Json:
    return wire.page(call.region.snapshots, call.project.id, call.query, wire.snapshot)


@_operation("snapshot_create", "POST", "/v1/snapshots", 201)
async def _snapshot_create(call: Call) -> wire.Json:
    project, body = call.project, parse(SnapshotCreate, call.body)
    return wire.snapshot(await disks.create_snapshot(call.caller, project, body, call.struck))


@_operation("snapshot_view", "GET", "/v1/snapshots/{snapshot}")
async def _snapshot_view(call: Call) -> wire.Json:
    return wire.snapshot(_snapshot(call))


@_operation("snapshot_delete", "DELETE", "/v1/snapshots/{snapshot}", 204)
async def _snapshot_delete(call: Call) -> None:
    await disks.discard(call.region, _snapshot(call))
