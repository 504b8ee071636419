"""What a definition would start from now, and whether an image still exists: asked of both regions."""

from __future__ import annotations

from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import Image, ImageCreate
from flows.oxide_image.definition import OxideImageDefinition
from tests.conftest import RegionInABox
from tests.tasks.outscale.box import Box
from tests.tasks.outscale.conftest import box
from tests.tasks.oxide.support import a_run, a_snapshot, an_image

__all__ = ["box"]


async def publish(client: OutscaleClient, like: Image, name: str) -> str:
    """A new OMI of the same disk."""
    request = ImageCreate(
        image_name=name, root_device_name=like.root_device_name, block_device_mappings=like.block_device_mappings
    )
    return (await client.create_image(request)).image_id


async def test_a_new_omi_that_a_filter_finds_is_another_source(box: Box) -> None:
    wanted = {"filters": {"image-name": "base*"}, "owners": ["self"], "most_recent": True}
    definition = await box.definition(source_omi_filter=wanted)
    run = box.run()
    first = await definition.find_source(run)
    assert first is not None
    assert first.name == "base"
    new = await publish(run.client, await box.source(), "base-2")
    second = await definition.find_source(run)
    assert second is not None
    assert (second.id, second.name) == (new, "base-2")
    assert first.created is not None
    assert second.created is not None
    assert second.created >= first.created


async def test_an_omi_that_is_gone_is_none(box: Box) -> None:
    definition, run = await box.definition(), box.run()
    new = await publish(run.client, await box.source(), "base-2")
    assert await definition.has_image(run, new)
    await run.client.delete_image(new)
    assert not await definition.has_image(run, new)


async def test_from_scratch_there_is_no_source(box: Box) -> None:
    definition = await box.definition(from_scratch=True)
    assert await definition.find_source(box.run()) is None


async def test_a_definition_of_omis_starts_from_its_parents_image(box: Box) -> None:
    given = {"source_omi_filter": {"owners": ["self"]}, "from_scratch": True, "build_name": "web"}
    model = type(await box.definition())
    assert model.built_upon(given, "ami-12345678") == {"build_name": "web", "source_omi": "ami-12345678"}
    definition = model.built_upon(model.model_validate(given), "ami-12345678")
    assert (definition.source_omi, definition.source_omi_filter, definition.from_scratch) == (
        "ami-12345678",
        None,
        False,
    )


async def test_an_image_that_took_anothers_name_is_another_source(region: RegionInABox) -> None:
    async with region.client() as client:
        run = a_run(region, client=client)
        snapshot = await a_snapshot(run, region)
        old = await an_image(client, region.project, "web", snapshot)
        choice = {"name": "web", "project": region.project}
        given = {"boot_disk_image_id": choice, "project": region.project, "ssh_username": "root"}
        definition = OxideImageDefinition.model_validate(given)
        found = await definition.find_source(run)
        assert found is not None
        assert found.id == old.id
        assert await definition.has_image(run, old.id)
        await client.delete_image(old.id)
        new = await an_image(client, region.project, "web", snapshot)
        found = await definition.find_source(run)
        assert found is not None
        assert found.id == new.id
        assert not await definition.has_image(run, old.id)
        assert definition.built_upon(given, old.id)["boot_disk_image_id"] == old.id
