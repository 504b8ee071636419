"""Looking an image up, as Packer's data source `oxide-image` does; an error lists what there is."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Iterable

from blocks.errors import Ambiguous, NotFound
from blocks.oxide.client import OxideClient, is_id
from blocks.oxide.models import Image, Resource
from tasks.oxide.option_types import ImageByName
from tasks.side_by_side import side_by_side

_MOST_SHOWN = 10


async def find_image(client: OxideClient, image: str | ImageByName, *, project: str | None = None) -> Image:
    """Find an image.

    Args:
        client: The region.
        image: An id; a name; or a name in a project or in the silo.
        project: For a plain name: the project that is looked in besides the silo.

    Raises:
        NotFound: there is none. The error lists what there is, names near to it first.
        Ambiguous: the silo and the project both have an image of that name.
    """
    if isinstance(image, ImageByName):
        return await _in_one_place(client, image.name, image.project)
    if is_id(image) or project is None:
        return await _in_one_place(client, image, None)
    async with side_by_side() as looks:
        of_silo_look = looks.create_task(_of(client, image, None))
        of_project_look = looks.create_task(_of(client, image, project))
    of_silo, of_project = of_silo_look.result(), of_project_look.result()
    if of_silo is not None and of_project is not None:
        raise Ambiguous(
            "two images have this name",
            resource=f"image {image}",
            why=f"{of_silo.id} is the silo's, {of_project.id} is project {project}'s",
            hint=f"Say which: the id, {{name: {image}}} for the silo's, or {{name: {image}, project: {project}}}.",
        )
    found = of_silo or of_project
    if found is None:
        raise await _nothing_found(client, image, [None, project])
    return found


async def _in_one_place(client: OxideClient, name_or_id: str, project: str | None) -> Image:
    found = await _of(client, name_or_id, project)
    if found is None:
        raise await _nothing_found(client, name_or_id, [project])
    return found


async def _of(client: OxideClient, name_or_id: str, project: str | None) -> Image | None:
    try:
        return await client.image(name_or_id, project=project)
    except NotFound as error:
        if project_is_missing(error):
            raise
        return None


def project_is_missing(error: NotFound) -> bool:
    """Whether it is the project that is not there, and not what was looked for in it."""
    return "project with" in error.why


async def _nothing_found(client: OxideClient, name_or_id: str, places: list[str | None]) -> NotFound:
    said = [f"{_place(project)} has: {await what_there_is(name_or_id, client.images(project))}" for project in places]
    where = " nor ".join(_place(project) for project in places)
    hint = "An image is given by id, by the name of a silo image, or as {name: …, project: …}."
    if is_id(name_or_id):
        return NotFound("there is no image of this id that the user may see", resource=name_or_id, hint=hint)
    return NotFound(f"{where} has no image of this name", resource=name_or_id, why="; ".join(said), hint=hint)


def _place(project: str | None) -> str:
    return "the silo" if project is None else f"project {project}"


async def what_there_is(wanted: str, listing: AsyncIterator[Resource]) -> str:
    """The names of a listing in words, those near to what was wanted first."""
    names = nearest_first(wanted, [resource.name async for resource in listing])
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more if names else "none"


def nearest_first(wanted: str, names: Iterable[str]) -> list[str]:
    """Names in the order of their likeness to one."""
    return sorted(names, key=lambda name: (-difflib.SequenceMatcher(None, wanted, name).ratio(), name))
