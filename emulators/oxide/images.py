"""Images: of a snapshot, of a project or the silo, and those that come with the region."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from emulators.oxide import errors
from emulators.oxide.bodies import ImageCreate, check_name, is_uuid
from emulators.oxide.records import Image, Project, SnapshotState, new_id, now
from emulators.oxide.region import GIB, OxideRegion
from emulators.region.home import RegionError


def select(region: OxideRegion, name_or_id: str, project: str | None) -> Image:
    """What a path names: by id, by name in `?project=`, or by name in the silo.

    Raises:
        ApiError: 400 for an id together with a project, 404 for none.
    """
    if is_uuid(name_or_id):
        if project is not None:
            raise errors.invalid_request("when providing image as an ID, project should not be specified")
        return region.find(region.images, "image", name_or_id)
    if project is None:
        return region.find(region.images, "silo-image", name_or_id)
    return region.find(region.images, "project-image", name_or_id, region.project(project).id)


def _check_free(region: OxideRegion, project_id: str | None, name: str) -> None:
    scope = project_id or ""
    if region.images.named(scope, name) or (scope, name) in region.image_names:
        raise errors.already_exists("project-image" if project_id else "silo-image", name)


async def create(region: OxideRegion, project: Project | None, body: ImageCreate) -> Image:
    """Make an image of a snapshot; without a project it is the silo's.

    Raises:
        ApiError: 400 for a snapshot of another project or a name that is taken.
    """
    snapshot = region.find(region.snapshots, "snapshot", body.source.id)
    if project is not None and snapshot.project_id != project.id:
        raise errors.invalid_request("snapshot does not belong to this project")
    if snapshot.state is not SnapshotState.READY:
        raise errors.invalid_request(f"snapshot is not ready: it is {snapshot.state}")
    image = Image(
        id=new_id(),
        name=body.name,
        description=body.description,
        project_id=project.id if project else None,
        os=body.os,
        version=body.version,
        size=snapshot.size,
        block_size=snapshot.block_size,
    )
    _check_free(region, image.project_id, image.name)
    await _make(region, image, region.path(snapshot))
    return image


async def _make(region: OxideRegion, image: Image, source: Path) -> None:
    key = (image.scope, image.name)
    region.image_names.add(key)
    try:
        await region.machines.copy_disk(source, region.path(image), image.size)
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
    _check_free(region, project_id, image.name)
    image.project_id, image.time_modified = project_id, now()
    region.images.save(image)


@dataclass(frozen=True)
class Source:
    """An image that is to come with the region."""

    disk: Path
    name: str
    description: str
    os: str
    version: str

    @property
    def mark(self) -> str:
        """Which file it is, and when that was last changed."""
        status = self.disk.stat()
        return f"{self.disk.absolute()}:{status.st_size}:{status.st_mtime_ns}"

    @classmethod
    def read(cls, path: Path) -> Source:
        """Read `disk.raw` and `image.json` in a directory, or a disk file alone.

        Raises:
            RegionError: there is no such thing there.
        """
        disk = path / "disk.raw" if path.is_dir() else path
        description = path / "image.json" if path.is_dir() else path.with_suffix(".json")
        if not disk.is_file():
            raise RegionError(f"no disk at {disk}: --image takes a directory with disk.raw, or a raw disk file")
        told: dict[str, object] = {}
        try:
            if description.exists():
                told = json.loads(description.read_text())
            default = path.name if path.is_dir() else path.stem
            return cls(
                disk=disk,
                name=check_name(str(told.get("name", default)).lower()),
                description=str(told.get("description", "")),
                os=str(told.get("os", "unknown")),
                version=str(told.get("version", "unknown")),
            )
        except ValueError as error:
            raise RegionError(f"{description}: {error}") from None


async def install(region: OxideRegion, source: Source) -> Image:
    """Make a source a silo image, unless it is one already. One whose file has changed takes the former's place.

    An image of that name that a client made stays as it is.
    """
    former = region.images.named("", source.name)
    if former is not None:
        if former.source_mark in {source.mark, None}:
            return former
        await delete(region, former)
    whole_gib = -(-source.disk.stat().st_size // GIB) * GIB
    image = Image(
        id=new_id(),
        name=source.name,
        description=source.description,
        project_id=None,
        os=source.os,
        version=source.version,
        size=max(whole_gib, GIB),
        block_size=512,
        source_mark=source.mark,
    )
    await _make(region, image, source.disk)
    return image
