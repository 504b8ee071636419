"""A build that ends between any two of its requests: teardown leaves nothing of it, or finishes a replacement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blocks.outscale.models import Image
from tasks.mark import provenance
from tasks.outscale.tokens import ARTIFACT, TAG, values
from tests.conftest import Tune
from tests.tasks.outscale.box import FRIEND, Box, Cut, CutClient, opened
from tests.tasks.outscale.story import bake

OPTIONS: dict[str, Any] = {
    "omi_name": "web",
    "omi_description": "the web server",
    "omi_account_ids": [FRIEND],
    "tags": {"team": "web"},
    "snapshot_tags": {"kind": "root"},
}


async def images_named(box: Box, name: str) -> list[Image]:
    images = [entry for entry in (await box.inventory())["images"] if entry["name"] == name]
    return [await box.client().image(entry["id"]) for entry in images]


async def old_omi(box: Box) -> Image:
    """An OMI of the name that the build is to have, made by an earlier build."""
    return await bake(box.run(), await box.definition(omi_name="web"))


async def of_whom(box: Box) -> dict[str, list[str]]:
    """What there is beside what comes with the region."""
    inventory = await box.inventory()
    comes = {identifier for image in inventory["images"] if image["of_region"] for identifier in image["snapshot_ids"]}
    return {
        "images": [image["name"] for image in inventory["images"] if not image["of_region"]],
        "snapshots": [entry["id"] for entry in inventory["snapshots"] if entry["id"] not in comes],
        "volumes": [entry["id"] for entry in inventory["volumes"]],
    }


async def cut_everywhere(directory: Path, tune: Tune, options: dict[str, Any], check: Any, *, old: bool) -> None:
    """Cut a build at every request, once before it is sent and once after it was carried out, each in a new region."""
    number, after, cuts = 0, False, 0
    while True:
        async with opened(directory / f"{number}-{after}", tune) as box:
            former = await old_omi(box) if old else None
            client = box.client(kind=CutClient)
            assert isinstance(client, CutClient)
            client.at, client.after = number, after
            run = box.run(client=client)
            definition = await box.definition(**options)
            try:
                await bake(run, definition)
            except Cut as cut:
                where = f"cut {'after' if after else 'before'} request {number}, {cut}"
            else:
                assert cuts > 20, client.said
                return
            cuts += 1
            removal = await box.gone(run.id)
            assert removal.left == {}, where
            await check(box, run.id, former, where)
        number, after = (number, True) if not after else (number + 1, False)


@pytest.mark.timeout(600)
async def test_nothing_is_left_or_the_omi_is_finished(tmp_path: Path, tune: Tune) -> None:
    async def check(box: Box, run: Any, _: Any, where: str) -> None:
        left = await of_whom(box)
        assert left["volumes"] == [], where
        if left["images"]:
            (omi,) = await images_named(box, "web")
            assert values(omi.tags) == {TAG: ARTIFACT, "team": "web"}, where
            assert left["snapshots"] == omi.snapshot_ids, where
        else:
            assert left["snapshots"] == [], where

    await cut_everywhere(tmp_path, tune, OPTIONS, check, old=False)


@pytest.mark.timeout(600)
async def test_a_replacement_never_leaves_a_user_with_neither_omi(tmp_path: Path, tune: Tune) -> None:
    options = {**OPTIONS, "force_deregister": True}

    async def check(box: Box, run: Any, old: Image, where: str) -> None:
        left = await of_whom(box)
        assert left["images"] == ["web"], where
        assert left["volumes"] == [], where
        (omi,) = await images_named(box, "web")
        assert omi.state == "available", where
        if omi.image_id == old.image_id:
            assert left["snapshots"] == old.snapshot_ids, where
        else:
            assert sorted(left["snapshots"]) == sorted(old.snapshot_ids + omi.snapshot_ids), where
            assert values(omi.tags) == {TAG: ARTIFACT, "team": "web"}, where
            assert omi.permissions_to_launch.account_ids == [FRIEND], where
            assert omi.description == f"the web server {provenance(run)}", where
            snapshot = await box.client().snapshot(omi.snapshot_ids[0])
            assert values(snapshot.tags) == {TAG: ARTIFACT, "team": "web", "kind": "root"}, where
            assert snapshot.permissions_to_create_volume.account_ids == [FRIEND], where

    await cut_everywhere(tmp_path, tune, options, check, old=True)


@pytest.mark.timeout(600)
async def test_a_copied_source_and_its_snapshots_go(tmp_path: Path, tune: Tune) -> None:
    async def check(box: Box, run: Any, _: Any, where: str) -> None:
        left = await of_whom(box)
        assert left["volumes"] == [], where
        omis = await images_named(box, "web")
        assert left["images"] == [omi.image_name for omi in omis], where
        assert left["snapshots"] == [identifier for omi in omis for identifier in omi.snapshot_ids], where

    options = {"omi_name": "web", "source_omi": None, "source_omi_filter": {"filters": {"name": "public"}}}
    await cut_everywhere(tmp_path, tune, options, check, old=False)
