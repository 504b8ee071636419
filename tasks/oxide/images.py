"""Images of an Oxide region: the source that a build starts from, the artifact that it ends with."""

from __future__ import annotations

from blocks.errors import AlreadyExists, EndedBadly, NotFound
from blocks.oxide.models import DESCRIPTION_LENGTH, Image, ImageCreate, Instance, Project, Snapshot, SnapshotSource
from blocks.settings import settings
from tasks.mark import provenance
from tasks.oxide.run import OxideRun
from tasks.step import step
from tasks.waiting import poll


@step("view project")
async def view_project(run: OxideRun) -> Project:
    """See that the project is there: what is looked up in it would else be missing for a reason that nobody guesses."""
    try:
        return await run.client.project(run.project)
    except NotFound as error:
        error.hint = "See the projects that this token's user may see with: oxide project list"
        raise


@step("view source image")
async def view_source_image(run: OxideRun, image: str) -> Image:
    """Find the source image, by id, or by name among the silo's images."""
    try:
        found = await run.client.image(image)
    except NotFound as error:
        error.hint = (
            "boot_disk_image_id takes the id of an image that the token's user may see, or the name of a silo image. "
            "See what there is with: oxide image list"
        )
        raise
    run.logger.info("Source image: %s (%s), %s %s", found.name, found.id, found.os, found.version)
    return found


@step("check artifact name")
async def check_artifact_name(run: OxideRun, name: str) -> Image | None:
    """See that the artifact's name is free, before anything is created.

    Returns:
        This run's own image, when an earlier attempt finished it.

    Raises:
        AlreadyExists: another image has the name.
    """
    try:
        found = await run.client.image(name, project=run.project)
    except NotFound:
        return None
    if found.description.endswith(provenance(run.id)):
        run.logger.info("An earlier attempt of this run finished the image %s (%s)", found.name, found.id)
        return found
    raise AlreadyExists(
        "the artifact's name is taken",
        resource=f"image {name} in project {run.project}",
        why=f"image {found.id} has it since {found.time_created:%Y-%m-%d}",
        hint="Choose another artifact_name (variables such as {{timestamp}} make it unique), or delete that image.",
    )


@step("snapshot boot disk")
async def snapshot_boot_disk(run: OxideRun, instance: Instance) -> Snapshot:
    """Take the snapshot of the instance's boot disk, from which the image is made. It has the instance's name."""
    name, disk = instance.name, instance.boot_disk_id
    if disk is None:
        raise EndedBadly("the instance has no boot disk", resource=f"instance {name} ({instance.id})")
    snapshot = await run.create_named(
        f"snapshot {name}",
        lambda: run.client.create_snapshot(run.project, name, str(run.mark), disk),
        lambda: run.client.snapshot(name, project=run.project),
    )
    if snapshot.state == "ready":
        return snapshot
    return await poll(
        lambda: run.client.snapshot(snapshot.id),
        _is_ready,
        what="ready",
        resource=f"snapshot {name} ({snapshot.id})",
        timeout=settings().api_timeout,
        describe=lambda seen: seen.state,
    )


def _is_ready(snapshot: Snapshot) -> bool:
    if snapshot.state in ("faulted", "destroyed"):
        raise EndedBadly(
            f"the snapshot is {snapshot.state}",
            resource=f"snapshot {snapshot.name} ({snapshot.id})",
            hint="The rack could not read the disk. Run the build again; if it repeats, ask the rack's operators.",
        )
    return snapshot.state == "ready"


@step("register image")
async def register_image(
    run: OxideRun, name: str, description: str, os: str, version: str, snapshot: Snapshot
) -> Image:
    """Make the image. It carries no mark: from here on it is nobody's to remove."""
    origin = provenance(run.id)
    text = f"{description[: DESCRIPTION_LENGTH - len(origin) - 1]} {origin}".strip()
    request = ImageCreate(name=name, description=text, os=os, version=version, source=SnapshotSource(id=snapshot.id))
    return await run.create_named(
        f"image {name}",
        lambda: run.client.create_image(run.project, request),
        lambda: run.client.image(name, project=run.project),
        lambda image: image.description.endswith(origin),
    )
