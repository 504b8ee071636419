"""Choosing an OMI: what is asked for is what is chosen, and nothing that was asked for is dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import blocks.outscale.client as client_module
from blocks.errors import InvalidRequest, NotFound
from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import Image, ImageCreate
from tasks.outscale.lookup import _KEYS, OmiFilter, OmiLookup, find_omi
from tests.conftest import Tune
from tests.tasks.outscale.box import OTHER, Box, opened


@pytest.fixture
async def shelf(tmp_path: Path, tune: Tune) -> AsyncIterator[Box]:
    """A region with four OMIs: base (ours, from the region), one newer than the other, and a public one."""
    async with opened(tmp_path / "region", tune, public=["vendor-1"]) as box:
        source = await box.source()
        for number, modes in ((1, ["legacy"]), (2, ["legacy", "uefi"])):
            request = ImageCreate(
                image_name=f"web-{number}",
                description=f"web [{number}]",
                root_device_name=source.root_device_name,
                block_device_mappings=source.block_device_mappings,
                boot_modes=modes,
                product_codes=["0001"],
            )
            made = await box.client().create_image(request)
            await box.client().create_tags([made.image_id], {"team": "web", "number": str(number)})
            while (await box.client().image(made.image_id)).state != "available":
                pass
        yield box


async def found(box: Box, image_id: str | None = None, **asked: Any) -> str:
    wanted = OmiFilter.model_validate(asked)
    return (await find_omi(box.client(), wanted, box.owner.account_id, image_id)).image_name


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"filters": {"image-name": "web-1"}}, "web-1"),
        ({"filters": {"name": "*-2"}}, "web-2"),
        ({"filters": {"name": ["web-2", "none"]}}, "web-2"),
        ({"filters": {"name": "web-?", "boot-mode": "uefi"}}, "web-2"),
        ({"filters": {"tag:number": "1"}}, "web-1"),
        ({"filters": {"tag:number": "?", "tag:team": "w*", "description": "web [[]2]"}}, None),
        ({"filters": {"description": "web [2]"}}, "web-2"),
        ({"filters": {"description": "* [1]"}}, "web-1"),
        ({"filters": {"tag-key": "team", "name": "web-1"}}, "web-1"),
        ({"filters": {"architecture": "x86_64", "virtualization-type": "hvm", "name": "web-1"}}, "web-1"),
        ({"filters": {"root-device-type": "bsu", "root-device-name": "/dev/sda1", "name": "web-1"}}, "web-1"),
        ({"filters": {"is-public": "true"}}, "vendor-1"),
        ({"filters": {"is-public": "false", "name": "base"}}, "base"),
        ({"filter": [{"name": "name", "value": "web-*"}, {"name": "name", "value": "*-1"}]}, "web-1"),
        ({"filter": [{"name": "tag:number", "value": ["2", "3"]}]}, "web-2"),
        ({"owners": ["self"], "filters": {"name": "b*"}}, "base"),
        ({"owners": ["000000000001"]}, "vendor-1"),
        ({"owners": ["000000000001", "self"], "filters": {"name": "vendor-*"}}, "vendor-1"),
        ({"owners": ["000000000001"], "filters": {"name": "web-1"}}, None),
        ({"owners": [OTHER]}, None),
        ({"owners": ["self"], "filters": {"account-id": "000000000001"}}, None),
        ({"filters": {"state": "failed", "name": "web-1"}}, None),
        ({"owners": ["self"], "most_recent": True}, "web-2"),
    ],
)  # fmt: skip
async def test_what_matches(shelf: Box, asked: dict[str, Any], name: str | None) -> None:
    if name is None:
        with pytest.raises(NotFound, match="no OMI matches"):
            await found(shelf, **asked)
    else:
        assert await found(shelf, **asked) == name


async def test_an_id_and_a_filter_must_both_match(shelf: Box) -> None:
    base = (await shelf.source()).image_id
    assert await found(shelf, base, filters={"name": "b*"}) == "base"
    with pytest.raises(NotFound):
        await found(shelf, base, filters={"name": "web-*"}, most_recent=True)


async def test_several_are_an_error_that_names_them(shelf: Box) -> None:
    with pytest.raises(InvalidRequest, match=r"2 OMIs match: web-2 \(ami-\w+\), web-1"):
        await found(shelf, filters={"tag:team": "web"})


async def test_the_newest_is_looked_for_on_every_page(shelf: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_PAGE", 1)
    assert await found(shelf, owners=["self"], most_recent=True) == "web-2"


async def test_every_key_is_understood_by_the_region(shelf: Box) -> None:
    values = {"is-public": "true", "secure-boot": "false", "tpm-mandatory": "false", "boot-mode": "uefi"}
    for key in _KEYS:
        value = values.get(key, "1")
        wanted = OmiFilter.model_validate({"filters": {key: value}, "most_recent": True})
        try:
            await find_omi(shelf.client(), wanted, shelf.owner.account_id)
        except NotFound:
            continue


async def test_ids_and_aliases_of_owners_are_asked_for_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def images(_: OutscaleClient, filters: Any) -> AsyncIterator[Image]:
        asked.append(filters.model_dump(exclude_none=True))

        async def none() -> AsyncIterator[Image]:
            nothing: list[Image] = []
            for image in nothing:
                yield image

        return none()

    monkeypatch.setattr(OutscaleClient, "images", images)
    client = OutscaleClient.__new__(OutscaleClient)
    client.region = "eu-west-2"
    with pytest.raises(NotFound):
        await find_omi(client, OmiFilter(owners=["self", "Outscale"]), "123456789012")
    assert asked == [
        {"account_ids": ["123456789012"], "states": ["available"]},
        {"account_aliases": ["Outscale"], "states": ["available"]},
    ]


def test_an_unknown_key_is_an_error_that_says_which_there_are() -> None:
    for given in ({"filters": {"image_name": "x"}}, {"filter": [{"name": "image_name", "value": "x"}]}):
        with pytest.raises(ValidationError, match=r"is it image-name\?.*tag:KEY"):
            OmiFilter.model_validate(given)


def test_the_lookup_says_whose() -> None:
    with pytest.raises(ValidationError, match="owners"):
        OmiLookup.model_validate({"filters": {"name": "x"}})
