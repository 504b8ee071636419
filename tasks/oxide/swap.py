"""Finishing, with nothing but what is there, what `tasks.oxide.replacing` began."""

from __future__ import annotations

import asyncio

from blocks.errors import AlreadyExists, EndedBadly, NotFound
from blocks.oxide.client import OxideClient
from blocks.oxide.models import Image, Snapshot
from blocks.settings import settings
from tasks.mark import Mark
from tasks.oxide.plan import ImagePlan, is_of_run


async def finish_swap(client: OxideClient, project: str, stand_in_id: str, mark: Mark) -> None:
    """See that an image of the final name exists, so that the stand-in may go.

    If it is not there, the former one has gone already: the name is given to an image of the stand-in's snapshot. Of
    the description its provenance alone is known here.

    Args:
        client: The region.
        project: The project in which the snapshot is.
        stand_in_id: The image that is to take the other's place.
        mark: Its mark.

    Raises:
        EndedBadly: its snapshot is gone. The stand-in has to stay.
        NotFound: the stand-in is gone.
    """
    stand_in = await client.image(stand_in_id)
    place = None if stand_in.project_id is None else project
    assert mark.final is not None
    if await _final_is_there(client, stand_in, mark, place):
        return
    snapshot = await _snapshot_of(client, project, stand_in, mark)
    plan = ImagePlan(mark.final, "", stand_in.os, stand_in.version, place)
    try:
        await client.create_image(place, plan.request(mark.run, snapshot.id))
    except AlreadyExists:  # someone else has finished it meanwhile
        return


async def _final_is_there(client: OxideClient, stand_in: Image, mark: Mark, project: str | None) -> bool:
    """Whether an image has the final name, and will go on having it.

    One that is older than the stand-in is the former one, and a request to remove it may still be on its way from a
    process that is gone: then it is looked at for the settle time, as all that may still happen is.
    """
    clock = asyncio.get_running_loop().time
    settled = clock() + settings().settle_time
    while True:
        try:
            found = await client.image(str(mark.final), project=project)
        except NotFound:
            return False
        if is_of_run(found, mark.run) or found.time_created > stand_in.time_created or clock() >= settled:
            return True
        await asyncio.sleep(settings().poll_longest)


async def _snapshot_of(client: OxideClient, project: str, stand_in: Image, mark: Mark) -> Snapshot:
    async for snapshot in client.snapshots(project):
        whose = Mark.parse(snapshot.description)
        if whose is not None and (whose.run, whose.attempt) == (mark.run, mark.attempt):
            return snapshot
    raise EndedBadly(
        f"it is all that is left of image {mark.final}, and its snapshot is gone",
        resource=f"image {stand_in.name} ({stand_in.id})",
        hint="It was left. Boot an instance of it, take a snapshot, and make the image of that.",
    )
