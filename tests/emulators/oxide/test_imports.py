"""Disks: where their blocks come from, and imports."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.oxide.kitchen import GIB, Client, start_of

IMPORT = {"type": "importing_blocks", "block_size": 512}


def _path(client: Client, disk: dict[str, Any]) -> Path:
    return client.region.directory / "disks" / f"{disk['id']}.raw"


async def _write(client: Client, disk: dict[str, Any], data: bytes, offset: int = 0, status: int = 204) -> Any:
    body = {"offset": offset, "base64_encoded_data": base64.b64encode(data).decode()}
    return await client.post(f"/v1/disks/{disk['id']}/bulk-write", body, status)


async def test_an_import_ends_in_a_disk_and_a_snapshot_of_it(client: Client) -> None:
    disk = await client.disk(IMPORT)
    path = f"/v1/disks/{disk['id']}"
    for verb, state in (("bulk-write-start", "importing_from_bulk_writes"), ("bulk-write-stop", "import_ready")):
        await client.post(f"{path}/{verb}", status=204)
        assert (await client.get(path))["state"] == {"state": state}
    await client.post(f"{path}/bulk-write-start", status=204)
    await _write(client, disk, b"a" * 512 * 1024)
    await _write(client, disk, b"b" * 512, offset=GIB - 512)
    await client.post(f"{path}/bulk-write-stop", status=204)
    await client.post(f"{path}/finalize", {"snapshot_name": "whole"}, 204)
    assert (await client.get(path))["state"] == {"state": "detached"}
    with _path(client, disk).open("rb") as file:
        assert file.read(512 * 1024 + 1) == b"a" * 512 * 1024 + b"\0"
        file.seek(GIB - 512)
        assert file.read() == b"b" * 512
    snapshot = await client.get("/v1/snapshots/whole", project="bakery")
    assert (snapshot["state"], snapshot["disk_id"], snapshot["size"]) == ("ready", disk["id"], GIB)
    await client.delete(path)


async def test_steps_of_an_import_in_the_wrong_order_are_refused(client: Client) -> None:
    disk = await client.disk(IMPORT)
    path = f"/v1/disks/{disk['id']}"
    refused = await _write(client, disk, b"a" * 512, status=400)
    assert refused["message"] == "cannot import blocks with a bulk write for disk in state ImportReady"
    refused = await client.post(f"{path}/bulk-write-stop", status=400)
    assert refused["message"] == 'cannot set disk in state ImportReady to "import_ready"'
    await client.post(f"{path}/bulk-write-start", status=204)
    await client.post(f"{path}/bulk-write-start", status=400)
    await client.post(f"{path}/finalize", {}, 400)
    # Stuck: it has to be stopped and finalized before it can go.
    await client.delete(path, status=400)
    await client.post(f"{path}/bulk-write-stop", status=204)
    await client.post(f"{path}/finalize", {}, 204)
    await client.delete(path)
    plain = await client.disk()
    refused = await client.post(f"/v1/disks/{plain['id']}/bulk-write-start", status=400)
    assert refused["message"] == 'cannot set disk in state Detached to "importing_from_bulk_writes"'


@pytest.mark.parametrize(
    ("data", "offset"), [(b"a" * 512 * 1025, 0), (b"a" * 100, 0), (b"a" * 512, 100), (b"a" * 512, GIB)]
)
async def test_blocks_that_do_not_fit_are_refused(client: Client, data: bytes, offset: int) -> None:
    disk = await client.disk(IMPORT)
    await client.post(f"/v1/disks/{disk['id']}/bulk-write-start", status=204)
    assert (await _write(client, disk, data, offset, 400))["error_code"] == "InvalidRequest"
    no_base64 = {"offset": 0, "base64_encoded_data": "%%"}
    assert "base64" in (await client.post(f"/v1/disks/{disk['id']}/bulk-write", no_base64, 400))["message"]


async def test_a_disk_faults_in_the_middle_of_its_import(client: Client) -> None:
    await client.fault(operation="disk_bulk_write_import", kind="disk_faulted", skip=1)
    disk = await client.disk(IMPORT)
    await client.post(f"/v1/disks/{disk['id']}/bulk-write-start", status=204)
    await _write(client, disk, b"a" * 512)
    await _write(client, disk, b"a" * 512, 512, 500)
    assert (await client.get(f"/v1/disks/{disk['id']}"))["state"] == {"state": "faulted"}
    await client.delete(f"/v1/disks/{disk['id']}")


async def test_a_snapshot_that_cannot_be_made_leaves_the_import_as_it_was(client: Client) -> None:
    disk = await client.disk(IMPORT)
    client.machines.copy_error = OSError("disk full")
    await client.post(f"/v1/disks/{disk['id']}/finalize", {"snapshot_name": "s"}, 500)
    assert (await client.get(f"/v1/disks/{disk['id']}"))["state"] == {"state": "import_ready"}
    assert (await client.get("/v1/snapshots", project="bakery"))["items"] == []


async def test_disks_come_from_images_snapshots_and_nothing(client: Client) -> None:
    snapshot = await client.snapshot()
    image = await client.image()
    of_image = await client.disk({"type": "image", "image_id": image["id"]}, size=2 * GIB)
    of_snapshot = await client.disk({"type": "snapshot", "snapshot_id": snapshot["id"]})
    blank = await client.disk({"type": "blank", "block_size": 4096})
    assert (of_image["image_id"], of_snapshot["snapshot_id"], blank["block_size"]) == (
        image["id"],
        snapshot["id"],
        4096,
    )
    assert start_of(_path(client, of_image)) == start_of(_path(client, of_snapshot)) == b"bootable"
    assert start_of(_path(client, blank)) == b"\0" * 8
    assert [_path(client, disk).stat().st_size for disk in (of_image, of_snapshot, blank)] == [2 * GIB, GIB, GIB]


async def test_what_belongs_to_another_project_gives_no_disk(client: Client) -> None:
    snapshot = await client.snapshot()
    image = await client.made_image(project="bakery")
    await client.post("/v1/projects", {"name": "other", "description": ""})
    for source in ({"type": "image", "image_id": image["id"]}, {"type": "snapshot", "snapshot_id": snapshot["id"]}):
        body = {
            "name": "d",
            "description": "",
            "size": GIB,
            "disk_backend": {"type": "distributed", "disk_source": source},
        }
        refused = await client.post("/v1/disks", body, 400, project="other")
        assert refused["message"].endswith("does not belong to this project")


async def test_an_instance_comes_with_further_disks_made_and_found(client: Client) -> None:
    found = await client.disk(name="found")
    blank = {"type": "distributed", "disk_source": {"type": "blank", "block_size": 512}}
    made = {"type": "create", "name": "made", "description": "", "size": 2 * GIB, "disk_backend": blank}
    instance = await client.instance(disks=[made, {"type": "attach", "name": "found"}])
    await client.becomes(instance, "running")
    listed = (await client.get(f"/v1/instances/{instance['id']}/disks"))["items"]
    assert {d["name"] for d in listed} == {instance["name"], "made", "found"}
    assert {d["state"]["state"] for d in listed} == {"attached"}
    # The boot disk is the machine's first.
    assert client.machine(instance).specs[0].disks[0].name == f"{instance['boot_disk_id']}.raw"
    await client.instance(status=400, disks=[{"type": "attach", "name": "found"}])
    await client.post(f"/v1/instances/{instance['id']}/stop", status=202)
    await client.becomes(instance, "stopped")
    await client.delete(f"/v1/instances/{instance['id']}")
    assert (await client.get(f"/v1/disks/{found['id']}"))["state"] == {"state": "detached"}


async def test_states_of_what_is_being_made_can_be_seen(client: Client) -> None:
    client.machines.copying = asyncio.Event()
    image = await client.image()
    making = asyncio.create_task(client.disk({"type": "image", "image_id": image["id"]}, name="slow"))
    async with asyncio.timeout(20):
        while not (items := (await client.get("/v1/disks", project="bakery"))["items"]):
            await asyncio.sleep(0.01)
    assert items[0]["state"] == {"state": "creating"}
    client.machines.copying.set()
    assert (await making)["state"] == {"state": "detached"}
