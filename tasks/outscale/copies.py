"""A source OMI of another account is copied first: what its snapshots hold cannot be read but through a copy."""

from __future__ import annotations

from blocks.errors import EndedBadly
from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import Image, ImageCreate, SnapshotFilters
from tasks.mark import Mark
from tasks.outscale.omis import register
from tasks.outscale.run import OutscaleRun
from tasks.outscale.tokens import ARTIFACT, RUN_TAG, TAG, values
from tasks.outscale.waits import look_until, wait_for_omi
from tasks.step import step

_PART = "source"


def is_copy(image: Image, mark: Mark) -> bool:
    """Whether a marked OMI is the copy of a source: then its snapshots are the copy's, and ours."""
    return image.image_name == f"bakery-{mark.tail}-{mark.attempt}-{_PART}"


@step("copy source OMI")
async def copy_source(run: OutscaleRun, source: Image, account_id: str, timeout: float) -> Image:
    """Copy an OMI of another account into this one, mark the copy's snapshots, and wait until it is available.

    The copy is temporary. Snapshots of it that end up in the new OMI, its other disks', are tagged as finished with it.
    """
    request = ImageCreate(
        image_name=run.owned_name(_PART), source_image_id=source.image_id, source_region_name=run.client.region
    )
    copy = await register(run, request, account_id, run.mark)
    await mark_snapshots(run.client, copy, run.mark, timeout)
    return await wait_for_omi(run.client, copy, timeout)


async def mark_snapshots(client: OutscaleClient, copy: Image, mark: Mark, timeout: float) -> None:
    """Tag a copy's snapshots with its mark, as soon as it names them all; but what is finished stays so.

    Raises:
        EndedBadly: the copy failed before it named any.
    """

    def named(seen: Image) -> bool:
        devices = [device for device in seen.block_device_mappings if device.bsu]
        if devices and len(seen.snapshot_ids) == len(devices):
            return True
        if seen.state != "pending":
            raise EndedBadly(
                f"the copy is {seen.state} and names no snapshots",
                resource=f"OMI {seen.image_name} ({seen.image_id})",
                why=seen.state_comment.state_message,
                hint="Run the build again; if it repeats, copy the source OMI by hand and build upon that.",
            )
        return False

    if not (copy.state == "pending" and named(copy)):
        copy = await look_until(
            lambda: client.image(copy.image_id),
            named,
            what="telling its snapshots",
            resource=f"OMI {copy.image_name} ({copy.image_id})",
            timeout=timeout,
            describe=lambda seen: seen.state,
        )
    seen = client.snapshots(SnapshotFilters(snapshot_ids=copy.snapshot_ids))
    finished = {found.snapshot_id async for found in seen if values(found.tags).get(TAG) == ARTIFACT}
    if ours := [identifier for identifier in copy.snapshot_ids if identifier not in finished]:
        await client.create_tags(ours, {TAG: str(mark), RUN_TAG: str(mark.run)})
