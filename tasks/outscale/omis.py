"""What a build ends with: the snapshot, the OMI, its permissions and tags."""

from __future__ import annotations

from blocks.errors import EndedBadly, NotFound
from blocks.outscale.models import (
    Image,
    ImageCreate,
    ImageFilters,
    PermissionsChange,
    PermissionsSet,
    Snapshot,
    Volume,
)
from blocks.settings import settings
from tasks.mark import Mark
from tasks.outscale.run import OutscaleRun
from tasks.outscale.tokens import ARTIFACT, TAG
from tasks.step import step
from tasks.waiting import poll


@step("snapshot volume")
async def snapshot_volume(run: OutscaleRun, volume: Volume, description: str) -> Snapshot:
    """Take the snapshot from which the OMI is registered, and wait until it is completed."""
    async with run.creating("snapshot"):
        snapshot = await run.client.create_snapshot(
            volume.volume_id, description=description, client_token=run.token("snapshot")
        )
    await run.put_mark(snapshot.snapshot_id)

    def done(seen: Snapshot) -> bool:
        if seen.state in ("error", "deleting"):
            raise EndedBadly(
                f"the snapshot is in state {seen.state}",
                resource=f"snapshot {snapshot.snapshot_id}",
                hint="Run the build again; if it repeats, ask OUTSCALE's support with the snapshot's id.",
            )
        return seen.state == "completed"

    return await poll(
        lambda: run.client.snapshot(snapshot.snapshot_id),
        done,
        what="completed",
        resource=f"snapshot {snapshot.snapshot_id}",
        timeout=settings().snapshot_timeout,
        describe=lambda seen: f"{seen.state}, {seen.progress} %",
    )


@step("create OMI")
async def create_omi(run: OutscaleRun, request: ImageCreate, account_id: str) -> Image:
    """Register the OMI and wait until it is available. Until the build is through, its description is the mark."""

    async def find() -> Image:
        filters = ImageFilters(account_ids=[account_id], image_names=[request.image_name])
        async for image in run.client.images(filters):
            if image.image_name == request.image_name:
                return image
        raise NotFound("there is no such OMI", resource=f"OMI {request.image_name}")

    created = await run.create_once(
        f"OMI {request.image_name}",
        lambda: run.client.create_image(request.model_copy(update={"description": str(run.mark)})),
        find,
        lambda image: image.description == str(run.mark),
        lambda image: f"its id is {image.image_id}, its description is {image.description[:200]!r}",
    )

    def done(seen: Image) -> bool:
        if seen.state == "failed":
            raise EndedBadly(
                "the OMI failed",
                resource=f"OMI {request.image_name} ({seen.image_id})",
                why=seen.state_comment.state_message,
                hint="Run the build again; if it repeats, ask OUTSCALE's support with the OMI's id.",
            )
        return seen.state == "available"

    return await poll(
        lambda: run.client.image(created.image_id),
        done,
        what="available",
        resource=f"OMI {request.image_name} ({created.image_id})",
        timeout=settings().snapshot_timeout,
        describe=lambda seen: seen.state,
    )


@step("set attributes")
async def set_attributes(
    run: OutscaleRun, omi: Image, snapshot: Snapshot, accounts: list[str], *, everybody: bool
) -> None:
    """Let other accounts launch the OMI, and make volumes of its snapshot."""
    if everybody:
        change = PermissionsChange(additions=PermissionsSet(global_permission=True))
        await run.client.update_image(omi.image_id, permissions=change)
    if accounts:
        change = PermissionsChange(additions=PermissionsSet(account_ids=accounts))
        await run.client.update_image(omi.image_id, permissions=change)
        await run.client.update_snapshot(snapshot.snapshot_id, change)


@step("tag OMI")
async def tag_omi(
    run: OutscaleRun, omi: Image, snapshot: Snapshot, tags: dict[str, str], snapshot_tags: dict[str, str]
) -> None:
    """Give the user's tags, and pass the commit point: from then on OMI and snapshot are nobody's to remove."""
    if snapshot_tags:
        await run.client.create_tags([snapshot.snapshot_id], {**tags, **snapshot_tags})
    if tags:
        await run.client.create_tags([omi.image_id] if snapshot_tags else [omi.image_id, snapshot.snapshot_id], tags)
    await run.client.create_tags([omi.image_id, snapshot.snapshot_id], {TAG: ARTIFACT})


@step("describe OMI")
async def describe_omi(run: OutscaleRun, omi: Image, description: str) -> None:
    """Put the user's description in the place of the mark."""
    if Mark.parse(omi.description) is not None:
        await run.client.update_image(omi.image_id, description=description)
