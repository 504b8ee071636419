"""Looking an image up: by id, in the silo, in a project; an error lists what there is."""

from __future__ import annotations

import pytest

from blocks.errors import Ambiguous, NotFound
from tasks.oxide.lookup import find_image, nearest_first
from tasks.oxide.option_types import ImageByName
from tests.conftest import RegionInABox
from tests.tasks.oxide.support import a_run, a_snapshot, an_image


async def test_by_id_by_name_and_in_a_project(region: RegionInABox) -> None:
    async with region.client() as client:
        silo = await client.image("tiny")
        mine = await an_image(client, region.project, "web", await a_snapshot(a_run(region, client=client), region))
        project = region.project
        for choice, given, found in (
            (silo.id, None, silo),
            (mine.id, project, mine),
            ("tiny", None, silo),
            ("tiny", project, silo),
            ("web", project, mine),
            (ImageByName(name="tiny"), project, silo),
            (ImageByName(name="web", project=project), None, mine),
            (ImageByName(name=mine.id, project=project), None, mine),
        ):
            assert await find_image(client, choice, project=given) == found
        with pytest.raises(NotFound):
            await find_image(client, "web")
        with pytest.raises(NotFound):
            await find_image(client, ImageByName(name="web"), project=project)


async def test_a_name_that_leads_to_two_images(region: RegionInABox) -> None:
    async with region.client() as client:
        mine = await an_image(client, region.project, "tiny", await a_snapshot(a_run(region, client=client), region))
        silo = await client.image("tiny")
        with pytest.raises(Ambiguous) as several:
            await find_image(client, "tiny", project=region.project)
        for text in (mine.id, silo.id, "{name: tiny}", "{name: tiny, project: bakery}"):
            assert text in str(several.value)
        assert await find_image(client, ImageByName(name="tiny"), project=region.project) == silo
        assert await find_image(client, ImageByName(name="tiny", project=region.project)) == mine


async def test_what_is_not_there_lists_what_there_is(region: RegionInABox) -> None:
    async with region.client() as client:
        snapshot = await a_snapshot(a_run(region, client=client), region)
        for name in ("database", "web-2", "web-1"):
            await an_image(client, region.project, name, snapshot)
        with pytest.raises(NotFound) as missing:
            await find_image(client, "web-3", project=region.project)
        assert "the silo has: tiny; project bakery has: web-1, web-2, database" in str(missing.value)
        with pytest.raises(NotFound, match="the silo has no image of this name: the silo has: tiny"):
            await find_image(client, "web-3")
        with pytest.raises(NotFound, match="no image of this id"):
            await find_image(client, snapshot.id)
        with pytest.raises(NotFound, match='project with name "gone"'):
            await find_image(client, ImageByName(name="web-1", project="gone"))


def test_near_names_come_first() -> None:
    assert nearest_first("ubuntu-nobel", ["debian-12", "ubuntu-jammy", "ubuntu-noble", "web"])[:2] == [
        "ubuntu-noble",
        "ubuntu-jammy",
    ]
