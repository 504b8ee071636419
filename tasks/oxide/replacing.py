"""Putting a new image in the place of one that has its name, so that at any moment one of the two is there.

Names are unique, and nothing can be renamed. So the new image is first made under an owned name, as a stand-in whose
mark says which name it is to have (`final=`). Once it is seen to be good the former image goes, and the name is given
to an image of the same snapshot. From then on the stand-in is superfluous, and teardown removes it. Where that is cut,
teardown finishes it (`tasks.oxide.ground`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from blocks.errors import EndedBadly, NotFound
from blocks.oxide.models import Image, Snapshot
from tasks.mark import Mark
from tasks.oxide.plan import ImagePlan, is_of_run
from tasks.oxide.run import OxideRun
from tasks.step import step


@step("make stand-in image")
async def make_stand_in(run: OxideRun, plan: ImagePlan, snapshot: Snapshot) -> Image:
    """Make the new image under an owned name, and see that it is good.

    It belongs to whom its snapshot belongs to, also where that was kept by an earlier try: one goes with the other.

    Raises:
        EndedBadly: it is not what the snapshot is. The former image is untouched.
    """
    name, mark = run.owned_name("image"), replace(Mark.parse(snapshot.description) or run.mark, final=plan.name)
    made = await run.create_named(
        f"image {name}",
        lambda: run.client.create_image(plan.project, plan.request_as(name, str(mark), snapshot.id)),
        lambda: run.client.image(name, project=plan.project),
    )
    seen = await run.client.image(made.id)
    if seen.size != snapshot.size:
        raise EndedBadly(
            "the new image is not what its snapshot is",
            resource=f"image {name} ({made.id})",
            why=f"it has {seen.size} bytes, and the snapshot {snapshot.size}",
            hint=f"The former image {plan.name} was left as it is. Run the build again.",
        )
    return seen


@step("remove former image")
async def remove_former(run: OxideRun, plan: ImagePlan) -> None:
    """Remove the image that has the name now. What this run made itself stays."""
    former = await _former(run, plan)
    if former is None:
        return
    with suppress(NotFound):  # an earlier try, whose reply was lost
        await run.client.delete_image(former.id)
    run.logger.info("Removed the former image %s (%s) of %s", former.name, former.id, plan.place)


@step("look for former image")
async def has_former(run: OxideRun, plan: ImagePlan) -> bool:
    """Whether another image has the name: the check before the build may be hours old."""
    return await _former(run, plan) is not None


async def _former(run: OxideRun, plan: ImagePlan) -> Image | None:
    try:
        found = await run.client.image(plan.name, project=plan.project)
    except NotFound:
        return None
    return None if is_of_run(found, run.id) else found
