"""Teardown of what a build leaves on an Oxide region, against a region in a box."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import pytest

from blocks.errors import Forbidden, LeftBehind
from blocks.oxide.client import OxideClient
from blocks.oxide.models import Instance
from blocks.oxide.requests import ImageCreate, SnapshotSource
from tasks.mark import Mark, provenance
from tasks.oxide.ground import OxideGround
from tasks.teardown import Removal, find, tear_down
from tasks.waiting import poll
from tests.conftest import RegionInABox, Tune
from tests.tasks.oxide.support import KEY, launch
from tests.tasks.support import LOG, mark_of


async def state(client: OxideClient, instance: Instance, wanted: str) -> None:
    await poll(
        lambda: client.instance(instance.id),
        lambda seen: seen.run_state == wanted,
        what=wanted,
        resource=instance.name,
        timeout=30,
        describe=lambda seen: seen.run_state,
    )


async def all_of_a_build(client: OxideClient, region: RegionInABox, mark: Mark, name: str) -> Instance:
    text = str(mark)
    await client.create_ssh_key(f"{name}-key", text, KEY)
    instance = await launch(client, region, name, text)
    snapshot = await client.create_snapshot(region.project, name, text, str(instance.boot_disk_id))
    source = SnapshotSource(id=snapshot.id)
    image = ImageCreate(name=f"{name}-t", description=text, os="o", version="1", source=source)
    await client.create_image(region.project, image)
    finished = image.model_copy(update={"name": f"{name}-done", "description": f"web {provenance(mark.run)}"})
    await client.create_image(region.project, finished)
    return instance


async def gone(client: OxideClient, region: RegionInABox, mark: Mark) -> Removal:
    ground = OxideGround(client, region.project)
    return await asyncio.wait_for(tear_down(ground, lambda other: other.run == mark.run, logger=LOG), 60)


async def test_all_of_a_run_goes_but_the_finished_image(region: RegionInABox) -> None:
    mark, other = mark_of(), mark_of()
    async with region.client() as client:
        instance = await all_of_a_build(client, region, mark, "ours")
        await state(client, instance, "running")
        await client.create_ssh_key("theirs", str(other), KEY)
        await client.create_ssh_key("quotes", f"as in: {mark}", KEY)
        await launch(client, region, "look-alike", f"copy of {mark}", start=False)
        stays = ["disks/look-alike", "images/ours-done", "instances/look-alike", "network_interfaces/look-alike"]
        stays += ["ssh_keys/quotes", "ssh_keys/theirs"]

        found = await find(OxideGround(client, region.project), lambda mark: True)
        assert [(one.kind, one.name) for one in found] == [
            ("instance", "ours"),
            ("disk", "ours"),
            ("snapshot", "ours"),
            ("ssh-key", "ours-key"),
            ("ssh-key", "theirs"),
            ("image", "ours-t"),
        ]
        removal = await gone(client, region, mark)
        assert removal.left == {}
        assert await region.names() == stays
        assert (await gone(client, region, mark)).removed == []


@pytest.mark.parametrize("wanted", ["just made", "running", "stopped", "failed"])
async def test_an_instance_goes_in_every_state(region: RegionInABox, wanted: str) -> None:
    mark = mark_of()
    if wanted == "failed":
        await region.fault(operation="instance_create", kind="instance_failed")
    async with region.client() as client:
        instance = await launch(client, region, "ours", str(mark), start=wanted != "stopped")
        if wanted != "just made":
            await state(client, instance, wanted)
        await gone(client, region, mark)
        assert await region.names() == []


async def test_two_at_once_do_no_harm(region: RegionInABox) -> None:
    mark = mark_of()
    async with region.client() as client, region.client() as other:
        await all_of_a_build(client, region, mark, "ours")
        removals = await asyncio.gather(gone(client, region, mark), gone(other, region, mark))
        assert [removal.left for removal in removals] == [{}, {}]
        assert await region.names() == ["images/ours-done"]


async def test_faults_of_the_region_do_not_keep_it(region: RegionInABox) -> None:
    mark = mark_of()
    async with region.client() as client:
        await all_of_a_build(client, region, mark, "ours")
        await region.fault(operation="*delete", kind="status", status=503, count=3)
        await region.fault(operation="instance_stop", kind="drop_after")
        await region.fault(operation="disk_delete", kind="drop_after")
        await region.fault(operation="snapshot_list", kind="drop_before")
        await gone(client, region, mark)
        assert await region.names() == ["images/ours-done"]


async def test_what_is_left_is_told_with_the_command_that_removes_it(region: RegionInABox, tune: Tune) -> None:
    mark = mark_of()
    async with region.client() as client:
        key = await client.create_ssh_key("ours-key", str(mark), KEY)
        await region.fault(operation="*ssh_key_delete", kind="status", status=403, count=None)
        tune(teardown_timeout=0.3)
        with pytest.raises(LeftBehind, match=f"oxide current-user ssh-key delete --ssh-key {key.id}"):
            (await gone(client, region, mark)).raise_for_left()
        assert await region.names() == ["ssh_keys/ours-key"]


async def test_in_a_project_that_is_gone_there_are_still_the_users_keys(region: RegionInABox) -> None:
    mark = mark_of()
    async with region.client() as client:
        await client.create_ssh_key("ours-key", str(mark), KEY)
        await gone(client, replace(region, project="gone"), mark)
        assert await region.names() == []


async def test_a_user_who_may_not_see_the_silos_images_cleans_up_all_the_same(region: RegionInABox) -> None:
    mark = mark_of()
    async with OxideClient(region.api, region.token, transport=_NoSilo()) as client:
        with pytest.raises(Forbidden):
            [image async for image in client.images()]
        await all_of_a_build(client, region, mark, "ours")
        assert (await gone(client, region, mark)).left == {}
        assert await region.names() == ["images/ours-done"]


class _NoSilo(httpx.AsyncHTTPTransport):
    """A region on which the user has a role in the project alone."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET" and request.url.path == "/v1/images" and "project" not in request.url.params:
            body = {"request_id": "r", "error_code": "Forbidden", "message": "Forbidden"}
            return httpx.Response(403, json=body, request=request)
        return await super().handle_async_request(request)
