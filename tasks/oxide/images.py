"""The artifact: a snapshot of the instance's boot disk, and an image of that."""

from __future__ import annotations

from blocks.errors import EndedBadly
from blocks.oxide.models import Image, Instance, Snapshot
from blocks.settings import settings
from tasks.oxide.plan import ImagePlan, is_of_run
from tasks.oxide.run import OxideRun
from tasks.step import step
from tasks.waiting import poll


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
async def register_image(run: OxideRun, plan: ImagePlan, snapshot: Snapshot) -> Image:
    """Make the image. It carries no mark: from here on it is nobody's to remove."""
    request = plan.request(run.id, snapshot.id)
    return await run.create_named(
        f"image {plan.name}",
        lambda: run.client.create_image(plan.project, request),
        lambda: run.client.image(plan.name, project=plan.project),
        lambda image: is_of_run(image, run.id),
    )
