from __future__ import annotations

import pytest

from tests.emulators.oxide.kitchen import GIB, Client, Kitchen, start_of


async def test_an_image_that_comes_with_the_region_is_the_silo_s(client: Client) -> None:
    image = await client.image()
    assert (image["project_id"], image["size"], image["os"]) == (None, GIB, "debian")
    assert [i["id"] for i in (await client.get("/v1/images"))["items"]] == [image["id"]]
    assert (await client.get("/v1/images", project="bakery"))["items"] == []


async def test_an_image_that_comes_with_the_region_is_replaced_when_its_file_has_changed(
    kitchen: Kitchen,
) -> None:
    async with kitchen.open() as client:
        first = await client.image()
    async with kitchen.open() as client:
        assert await client.image() == first
    (kitchen.source / "disk.raw").write_bytes(b"rebuilt!!")
    async with kitchen.open() as client:
        second = await client.image()
        assert second["id"] != first["id"]
        path = client.region.directory / "images" / f"{second['id']}.raw"
        assert start_of(path, 9) == b"rebuilt!!"


async def test_an_image_outlives_its_snapshot_disk_and_instance(client: Client) -> None:
    instance = await client.stopped()
    snapshot = await client.post(
        "/v1/snapshots",
        {"name": "s", "description": "", "disk": instance["boot_disk_id"]},
        project="bakery",
    )
    assert snapshot["state"] == "ready"
    image = await client.made_image(snapshot=snapshot["id"], project="bakery")
    await client.delete(f"/v1/instances/{instance['id']}")
    await client.delete(f"/v1/disks/{instance['boot_disk_id']}")
    await client.delete(f"/v1/snapshots/{snapshot['id']}")
    path = client.region.directory / "images" / f"{image['id']}.raw"
    assert start_of(path) == b"bootable"
    assert path.stat().st_size == image["size"]


async def test_without_a_project_an_image_is_the_silo_s(client: Client) -> None:
    image = await client.made_image()
    assert image["project_id"] is None
    assert (await client.get(f"/v1/images/{image['name']}"))["id"] == image["id"]


async def test_promote_and_demote_move_an_image(client: Client) -> None:
    image = await client.made_image(project="bakery")
    promoted = await client.post(f"/v1/images/{image['name']}/promote", status=202, project="bakery")
    assert promoted["project_id"] is None
    again = await client.post(f"/v1/images/{image['id']}/promote", status=400)
    assert again["error_code"] == "InvalidRequest"
    missing = await client.post(f"/v1/images/{image['id']}/demote", status=400)
    assert "project" in missing["message"]
    demoted = await client.post(f"/v1/images/{image['id']}/demote", status=202, project="bakery")
    assert demoted["project_id"] == image["project_id"]
    assert (await client.get(f"/v1/images/{image['name']}", project="bakery"))["id"] == image["id"]


async def test_a_name_that_is_taken_stops_create_and_promote(client: Client) -> None:
    snapshot = (await client.snapshot())["id"]
    await client.made_image(name="twice", snapshot=snapshot)
    clash = await client.made_image(status=400, name="twice", snapshot=snapshot)
    assert clash["error_code"] == "ObjectAlreadyExists"
    mine = await client.made_image(name="twice", snapshot=snapshot, project="bakery")
    clash = await client.post(f"/v1/images/{mine['id']}/promote", status=400)
    assert clash["error_code"] == "ObjectAlreadyExists"


async def test_a_snapshot_of_another_project_is_refused(client: Client) -> None:
    await client.post("/v1/projects", {"name": "other", "description": ""})
    await client.made_image(status=400, project="other")


@pytest.mark.parametrize("size", [GIB // 2, GIB + 1, 1024 * GIB])
async def test_a_disk_is_whole_gibibytes(client: Client, size: int) -> None:
    blank = {"type": "distributed", "disk_source": {"type": "blank", "block_size": 512}}
    body = {"name": "d", "description": "", "size": size, "disk_backend": blank}
    refused = await client.post("/v1/disks", body, 400, project="bakery")
    assert refused["error_code"] == "InvalidValue"


async def test_a_disk_is_no_smaller_than_its_image(kitchen: Kitchen) -> None:
    with (kitchen.source / "disk.raw").open("r+b") as file:
        file.truncate(GIB + 1)
    async with kitchen.open() as client:
        assert (await client.image())["size"] == 2 * GIB
        refused = await client.instance(status=400)
        assert refused["error_code"] == "InvalidRequest"


async def test_a_disk_in_the_wrong_state_gives_no_snapshot(client: Client) -> None:
    source = {"type": "distributed", "disk_source": {"type": "importing_blocks", "block_size": 512}}
    body = {"name": "d", "description": "", "size": GIB, "disk_backend": source}
    disk = await client.post("/v1/disks", body, project="bakery")
    assert disk["state"] == {"state": "import_ready"}
    snapshot = {"name": "s", "description": "", "disk": "d"}
    refused = await client.post("/v1/snapshots", snapshot, 503, project="bakery")
    assert refused["error_code"] == "ServiceNotAvailable"
    await client.delete("/v1/disks/d", status=400, project="bakery")
