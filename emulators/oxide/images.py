"""Images: of a snapshot, of a project or the silo, and those that come with the region."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from emulators.oxide import errors
from emulators.oxide.bodies.base import check_name, is_uuid
from emulators.oxide.bodies.storage import ImageCreate
from emulators.oxide.caller import Caller
from emulators.oxide.records import Image, Project, SnapshotState, new_id, now
from emulators.oxide.region import OxideRegion
from emulators.region.sources import GIB, Source


def select(caller: Caller, name_or_id: str, project: str | None) -> Image:
    """What a path names: by id, by name in `?project=`, or by name in the silo.

    Raises:
        ApiError: 400 for an id together with a project, 404 for none.
    """
    images = caller.region.images
    if is_uuid(name_or_id):
        if project is not None:
            raise errors.invalid_request("when providing image as an ID, project should not be specified")
        return caller.find(images, "image", name_or_id)
    if project is None:
        return caller.find(images, "silo-image", name_or_id, caller.user.silo_id)
    return caller.find(images, "project-image", name_or_id, caller.project(project).id)


def _check_free(region: OxideRegion, scope: str, name: str) -> None:
    if region.images.named(scope, name) or (scope, name) in region.image_names:
        raise errors.already_exists("silo-image" if region.silos.get(scope) else "project-image", name)


async def create(caller: Caller, project: Project | None, body: ImageCreate) -> Image:
    """Make an image of a snapshot; without a project it is the silo's.

    Raises:
        ApiError: 400 for a snapshot of another project or a name that is taken.
    """
    region = caller.region
    snapshot = caller.find(region.snapshots, "snapshot", body.source.id)
    if project is not None and snapshot.project_id != project.id:
        raise errors.invalid_request("snapshot does not belong to this project")
    if snapshot.state is not SnapshotState.READY:
        raise errors.invalid_request(f"snapshot is not ready: it is {snapshot.state}")
    image = Image(
        id=new_id(),
        name=body.name,
        description=body.description,
        silo_id=caller.user.silo_id,
        project_id=project.id if project else None,
        os=body.os,
        version=body.version,
        size=snapshot.size,
        block_size=snapshot.block_size,
    )
    _check_free(region, image.scope, image.name)
    await _make(region, image, region.machines.share_disk, region.path(snapshot))
    return image


async def _make(
    region: OxideRegion, image: Image, copy: Callable[[Path, Path, int], Awaitable[None]], source: Path
) -> None:
    key = (image.scope, image.name)
    region.image_names.add(key)
    try:
        await asyncio.sleep(region.times.image)
        await copy(source, region.path(image), image.size)
    except BaseException:
        await region.machines.delete_disk(region.path(image))
        raise
    finally:
        region.image_names.discard(key)
    region.images.save(image)


async def delete(region: OxideRegion, image: Image) -> None:
    """Delete an image. Disks made of it are not affected."""
    region.images.delete(image.id)
    await region.machines.delete_disk(region.path(image))


def promote(region: OxideRegion, image: Image) -> None:
    """Make a project's image the silo's.

    Raises:
        ApiError: 400 if it is already, or if the silo has one of that name.
    """
    if image.project_id is None:
        raise errors.invalid_request("image is already promoted")
    _move(region, image, None)


def demote(region: OxideRegion, image: Image, project: Project) -> None:
    """Make the silo's image a project's.

    Raises:
        ApiError: 400 if it is already, or if the project has one of that name.
    """
    if image.project_id is not None:
        raise errors.invalid_request("image is already demoted")
    _move(region, image, project.id)


def _move(region: OxideRegion, image: Image, project_id: str | None) -> None:
    _check_free(region, project_id or image.silo_id, image.name)
    image.project_id, image.time_modified = project_id, now()
    region.images.save(image)


def source(path: Path) -> Source:
    """An image that is to come with the region.

    Raises:
        RegionError: there is none at that path, or its name is none that this API takes.
    """
    return Source.read(path, lambda name: check_name(name.lower()))


async def install(region: OxideRegion, source: Source) -> Image:
    """Make a source an image of the first silo, unless it is one already.

    One whose file has changed takes the former's place. An image of that name that a client made stays as it is.
    """
    silo_id = region.identity.silo_id
    former = region.images.named(silo_id, source.name)
    if former is not None:
        if former.source_mark in {source.mark, None}:
            return former
        await delete(region, former)
    image = Image(
        id=new_id(),
        name=source.name,
        description=source.description,
        silo_id=silo_id,
        project_id=None,
        os=source.os,
        version=source.version,
        size=source.gib * GIB,
        block_size=512,
        source_mark=source.mark,
    )
    await _make(region, image, region.machines.copy_disk, source.disk)
    return image
