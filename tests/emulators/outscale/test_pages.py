"""Lists as pages, however long they are."""

from __future__ import annotations

import base64
import json

import pytest

from emulators.outscale.records import Image
from emulators.outscale.region import VENDOR
from tests.emulators.outscale.kitchen import VM, Client, Json, Kitchen

_CROWD = 1500


async def _walk(client: Client, action: str, key: str, size: int, **filters: object) -> list[list[Json]]:
    pages: list[list[Json]] = []
    token: Json = {}
    while True:
        reply = await client.call(action, ResultsPerPage=size, Filters=filters, **token)
        pages.append(reply[key])
        if "NextPageToken" not in reply:
            return pages
        token = {"NextPageToken": reply["NextPageToken"]}


async def test_pages_go_on_where_the_last_one_ended(client: Client) -> None:
    made = [(await client.volume())["VolumeId"] for _ in range(5)]
    first = await client.call("ReadVolumes", ResultsPerPage=2)
    await client.call("DeleteVolume", VolumeId=made[0])
    second = await client.call("ReadVolumes", ResultsPerPage=2, NextPageToken=first["NextPageToken"])
    last = await client.call("ReadVolumes", ResultsPerPage=2, NextPageToken=second["NextPageToken"])
    assert "NextPageToken" not in last
    assert [v["VolumeId"] for page in (first, second, last) for v in page["Volumes"]] == made


async def test_a_page_that_is_just_full_is_the_last(client: Client) -> None:
    for _ in range(4):
        await client.volume()
    assert [len(page) for page in await _walk(client, "ReadVolumes", "Volumes", 2)] == [2, 2]


async def test_a_crowd_is_read_page_by_page(kitchen: Kitchen) -> None:
    async with kitchen.open(crowd=_CROWD) as client:
        images = await _walk(client, "ReadImages", "Images", 400)
        assert [len(page) for page in images] == [400, 400, 400, _CROWD + 1 - 1200]
        names = [image["ImageName"] for page in images for image in page]
        assert names == ["debian-12", *(f"crowd-{n}" for n in range(_CROWD))]
        assert {image["AccountId"] for image in images[0][1:]} == {VENDOR}
        volumes = await _walk(client, "ReadVolumes", "Volumes", 1000, TagKeys=["Name"])
        assert [len(page) for page in volumes] == [1000, 500]
        # Who does not say gets what may be asked for at most.
        assert len((await client.call("ReadVolumes"))["Volumes"]) == 1000
        named = await _walk(client, "ReadImages", "Images", 5, ImageNames=["crowd-14?"])
        assert [len(page) for page in named] == [5, 5]
        by_id = {"ImageIds": [image["ImageId"] for image in images[1][:3]]}
        assert [len(page) for page in await _walk(client, "ReadImages", "Images", 2, **by_id)] == [2, 1]
    async with kitchen.open(crowd=_CROWD) as client:
        assert len(client.region.volumes) == _CROWD


async def test_a_page_looks_at_no_more_than_it_shows(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    async with kitchen.open(crowd=100) as client:
        looked_at = []

        def get(self: Image, name: str) -> object:
            if name == "mappings":
                looked_at.append(self.id)
            return object.__getattribute__(self, name)

        monkeypatch.setattr(Image, "__getattribute__", get)
        page = await client.call("ReadImages", ResultsPerPage=3, Filters={"BlockDeviceMappingVolumeSizes": [1]})
        assert len(page["Images"]) == 3
        # One more, to know whether there is another page.
        assert len(set(looked_at)) == 4


async def test_tags_are_read_page_by_page_too(client: Client) -> None:
    volumes = [(await client.volume())["VolumeId"] for _ in range(3)]
    ids = [*volumes, VM, (await client.image())["ImageId"]]
    tags = [{"Key": key, "Value": "x"} for key in ("c", "a", "b")]
    await client.call("CreateTags", ResourceIds=ids, Tags=tags)
    for size in (1, 2, 4, 15, 1000):
        pages = await _walk(client, "ReadTags", "Tags", size)
        found = [(tag["ResourceType"], tag["ResourceId"], tag["Key"]) for page in pages for tag in page]
        kinds = [("instance", VM), *(("volume", volume) for volume in volumes), ("image", str(ids[-1]))]
        assert found == [(kind, resource_id, key) for kind, resource_id in kinds for key in "abc"], size
        assert all(len(page) == size for page in pages[:-1])
    of_key = [tag for page in await _walk(client, "ReadTags", "Tags", 2, Keys=["b"]) for tag in page]
    assert len(of_key) == 5
    only = await client.call("ReadTags", Filters={"ResourceIds": [VM], "ResourceTypes": ["instance"], "Values": ["x"]})
    assert len(only["Tags"]) == 3


def _token(*parts: object) -> str:
    return base64.b64encode(json.dumps(parts).encode()).decode()


_BY_AGE = ("ReadVolumes", "ReadSnapshots", "ReadImages", "ReadTags")


@pytest.mark.parametrize(
    ("action", "token"),
    [
        *((action, "????") for action in (*_BY_AGE, "ReadSubregions")),
        *((action, _token(1, 2)) for action in (*_BY_AGE, "ReadSubregions")),
        *((action, base64.b64encode(b"[" * 5000).decode()) for action in (*_BY_AGE, "ReadSubregions")),
        *((action, _token("a", "b")) for action in _BY_AGE),
        *((action, _token("2026-01-01T00:00:00", "b")) for action in _BY_AGE),
        *((action, _token("a", "b", "c", "d")) for action in _BY_AGE),
    ],
)
async def test_a_token_of_elsewhere_is_refused(client: Client, action: str, token: str) -> None:
    assert await client.refused(action, NextPageToken=token) == (400, "4047")


@pytest.mark.parametrize("size", [0, 1001, -1])
async def test_a_page_has_1_to_1000(client: Client, size: int) -> None:
    assert await client.refused("ReadVolumes", ResultsPerPage=size) == (400, "4047")
