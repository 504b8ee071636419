"""What the region is asked before anything is made: all mistakes at once, and what would be made."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from blocks.errors import DefinitionError, Forbidden, Mistake, Unauthorized
from blocks.oxide.client import OxideClient
from blocks.oxide.models import GIB
from blocks.oxide.requests import BlankDisk, DiskOfSnapshot, FloatingIpOfInstance, ImageSource, SingleStack
from flows.oxide_image.definition import OxideImageDefinition
from tasks.mark import provenance
from tasks.oxide.check import check_with_region
from tasks.oxide.plan import Plan
from tasks.oxide.run import OxideRun
from tests.conftest import RegionInABox
from tests.tasks.oxide.support import KEY, a_run, a_snapshot, an_image, ask, instance_request, launch, options


async def checked(run: OxideRun, definition: OxideImageDefinition, base: Path = Path()) -> Plan:
    return await check_with_region.fn(run, definition, build_name="web", base=base)


async def mistakes(run: OxideRun, definition: OxideImageDefinition) -> dict[str, Mistake]:
    with pytest.raises(DefinitionError) as caught:
        await checked(run, definition)
    assert "Nothing was created" in caught.value.hint
    return {mistake.option: mistake for mistake in caught.value.mistakes}


async def test_what_is_left_out_has_its_default(region: RegionInABox) -> None:
    async with region.client() as client:
        run = a_run(region, client=client)
        plan = await checked(run, options(region))
        source = await client.image(region.image)
    request = plan.instance
    assert plan.source == source
    assert (request.name, request.hostname, request.ncpus) == (run.owned_name(), run.owned_name(), 1)
    assert request.boot_disk.disk_backend.disk_source == ImageSource(image_id=source.id)
    assert {request.description, request.boot_disk.description} == {str(run.mark)}
    assert (request.disks, request.anti_affinity_groups, request.ssh_public_keys) == ([], [], [])
    assert (request.user_data, request.auto_restart_policy) == ("", "never")
    assert plan.requests() == [request]
    assert plan.image.name.startswith("tiny-")
    assert plan.image.name.endswith(run.mark.tail)
    assert (plan.image.os, plan.image.version, plan.image.project) == (source.os, source.version, region.project)


async def test_all_that_is_named_is_found(region: RegionInABox, tmp_path: Path) -> None:
    (tmp_path / "user-data").write_bytes(b"#cloud-config\n")
    floating = await ask(region, "POST", "/v1/floating-ips", name="mine", description="")
    group = await ask(
        region, "POST", "/v1/anti-affinity-groups", name="apart", description="", policy="allow", failure_domain="sled"
    )
    async with region.client() as client:
        run = a_run(region, client=client)
        keys = [await client.create_ssh_key(name, "", KEY) for name in ("mine", "yours")]
        snapshot = await a_snapshot(a_run(region, client=client), region)
        image = await an_image(client, region.project, "tools", snapshot)
        plan = await checked(
            run,
            options(
                region,
                external_ip={"floating": "mine"},
                ssh_public_keys=["yours", keys[0].id, "mine"],
                anti_affinity_groups=["apart"],
                user_data_file="user-data",
                extra_disks=[
                    {"name": "data", "size": "2GiB", "block_size": 512},
                    {"name": "old", "snapshot": snapshot.name},
                    {"name": "tools", "image": {"name": "tools", "project": region.project}, "size": "3GiB"},
                ],
                cpus=2,
                hostname="web-{{build_name}}",
                promote=True,
            ),
            tmp_path,
        )
    request = plan.instance
    assert request.external_ips == [FloatingIpOfInstance(floating_ip="mine")]
    assert floating["ip"]
    assert request.ssh_public_keys == [keys[1].id, keys[0].id]
    assert request.anti_affinity_groups == [group["id"]]
    assert request.user_data == "I2Nsb3VkLWNvbmZpZwo="
    assert [(disk.name, disk.size) for disk in request.disks] == [
        (run.owned_name("data"), 2 * GIB),
        (run.owned_name("old"), snapshot.size),
        (run.owned_name("tools"), 3 * GIB),
    ]
    assert [disk.disk_backend.disk_source for disk in request.disks] == [
        BlankDisk(block_size=512),
        DiskOfSnapshot(snapshot_id=snapshot.id),
        ImageSource(image_id=image.id),
    ]
    assert {disk.description for disk in request.disks} == {str(run.mark)}
    assert (request.hostname, plan.image.project) == ("web-web", None)
    report = plan.report()
    for text in (
        "tiny",
        "2 CPUs",
        "floating IP mine",
        run.owned_name("data"),
        "in the silo",
        "Away from",
        "the build's",
    ):
        assert text in report


async def test_all_mistakes_come_at_once_and_nothing_is_made(region: RegionInABox) -> None:
    async with region.client() as client:
        await client.create_ssh_key("mine", "", KEY)
        await an_image(client, region.project, "taken", await a_snapshot(a_run(region, client=client), region))
        before = await region.names()
        found = await mistakes(
            a_run(region, client=client),
            options(
                region,
                boot_disk_image_id="tini",
                artifact_name="taken",
                vpc="defalt",
                ip_pools=["default", "nowhere"],
                ssh_public_keys=["mine", "mien"],
                anti_affinity_groups=["apart"],
                extra_disks=[
                    {"name": "a", "image": "nope"},
                    {"name": "b", "snapshot": "nope"},
                    {"name": "c", "image": "tiny", "size": "1GiB"},
                ],
            ),
        )
        assert await region.names() == before
    assert list(found) == [  # in the form's order
        "boot_disk_image_id",
        "artifact_name",
        "extra_disks[0].image",
        "extra_disks[1].snapshot",
        "ssh_public_keys[1]",
        "anti_affinity_groups[0]",
        "vpc",
        "ip_pools[1]",
    ]
    assert "tiny" in found["boot_disk_image_id"].rule
    assert found["boot_disk_image_id"].value == "tini"
    assert "set force" in found["artifact_name"].rule
    assert "there are: default" in found["vpc"].rule
    assert "default (v4)" in found["ip_pools[1]"].rule
    assert "there are: mine" in found["ssh_public_keys[1]"].rule
    assert "there are: none" in found["anti_affinity_groups[0]"].rule


async def test_a_subnet_that_is_not_there(region: RegionInABox) -> None:
    async with region.client() as client:
        found = await mistakes(a_run(region, client=client), options(region, subnet="elsewhere"))
    assert list(found) == ["subnet"]
    assert "a subnet of VPC default; there are: default" in found["subnet"].rule


async def test_a_project_that_is_not_there_is_one_mistake(region: RegionInABox) -> None:
    async with region.client() as client:
        run = a_run(region, client=client)
        run.project = "bakeri"
        given = {"project": "bakeri", "extra_disks": [{"name": "a", "snapshot": "s"}], "anti_affinity_groups": ["g"]}
        found = await mistakes(run, options(region, **given))
    assert list(found) == ["project"]
    assert "there are: bakery" in found["project"].rule


async def test_disks_that_are_too_small(region: RegionInABox) -> None:
    async with region.client() as client:
        run = a_run(region, client=client)
        other = a_run(region, client=client)
        source = await client.image(region.image)
        big = await launch(client, region, "big", str(other.mark), start=False, boot_disk=_bigger(source.id))
        snapshot = await client.create_snapshot(region.project, "big", str(other.mark), str(big.boot_disk_id))
        await an_image(client, region.project, "big", snapshot)
        disks = [{"name": "a", "snapshot": "big", "size": "2GiB"}]
        found = await mistakes(run, options(region, boot_disk_image_id="big", extra_disks=disks))
    assert list(found) == ["boot_disk_size", "extra_disks[0].size"]
    assert "3GiB" in found["boot_disk_size"].rule
    assert found["boot_disk_size"].value == "1GiB"
    assert "snapshot big, 3GiB" in found["extra_disks[0].size"].rule


def _bigger(image_id: str) -> Any:
    return instance_request("big", "", image_id).boot_disk.model_copy(update={"size": 3 * GIB})


async def test_a_floating_ip_that_someone_uses(region: RegionInABox) -> None:
    await ask(region, "POST", "/v1/floating-ips", name="mine", description="")
    async with region.client() as client:
        taker = await launch(
            client, region, "taker", "", start=False, external_ips=[FloatingIpOfInstance(floating_ip="mine")]
        )
        found = await mistakes(a_run(region, client=client), options(region, external_ip={"floating": "mine"}))
        assert taker.id in found["external_ip"].rule
        given = {"external_ip": {"floating": "mine"}, "ip_version": "v6"}
        assert "ip_version" in await mistakes(a_run(region, client=client), options(region, **given))
        assert "external_ip" in await mistakes(
            a_run(region, client=client), options(region, external_ip={"floating": "main"})
        )


async def test_addresses_of_a_family_that_no_pool_has(region: RegionInABox) -> None:
    async with region.client() as client:
        run = a_run(region, client=client)
        found = await mistakes(run, options(region, ip_version="v6"))
        assert "no default pool of IPv6 addresses" in found["ip_pool"].rule
        found = await mistakes(run, options(region, ip_version="v6", ip_pool="default"))
        assert found["ip_pool"].value == "default (v4)"
        plan = await checked(run, options(region, ip_version="v6", external_ip="none"))
    (nic,) = plan.instance.network_interfaces.params
    assert nic.ip_config == SingleStack(type="v6")
    assert plan.instance.external_ips == []


async def test_the_builds_own_image_of_an_earlier_attempt_is_found(region: RegionInABox) -> None:
    async with region.client() as client:
        run = a_run(region, client=client)
        snapshot = await a_snapshot(run, region)
        made = await an_image(client, region.project, "web", snapshot, description=f"x {provenance(run.id)}")
        # Nothing else matters any more.
        plan = await checked(run, options(region, artifact_name="web", vpc="gone"))
        assert plan.finished == made
        assert "has made it already" in plan.report()


async def test_force_takes_a_name_that_is_taken(region: RegionInABox) -> None:
    async with region.client() as client:
        run = a_run(region, client=client)
        snapshot = await a_snapshot(a_run(region, client=client), region)
        former = await an_image(client, region.project, "web", snapshot)
        plan = await checked(run, options(region, artifact_name="web", force=True))
        assert plan.former == former
        assert f"in place of {former.id}" in plan.report()
        # A silo image is to be replaced in the silo, where that name is free.
        assert (await checked(run, options(region, artifact_name="web", promote=True))).former is None
        assert "artifact_name" in await mistakes(run, options(region, artifact_name="tiny", promote=True))
        plan = await checked(run, options(region, artifact_name="web", skip_create_image=True))
        assert (plan.former, plan.makes_image) == (None, False)
        assert "none (skip_create_image)" in plan.report()


async def test_a_name_of_ones_own_must_be_free(region: RegionInABox) -> None:
    async with region.client() as client:
        await launch(client, region, "web", "someone else's", start=False)
        found = await mistakes(a_run(region, client=client), options(region, name="web"))
    assert "must be free, and " in found["name"].rule


async def test_names_that_are_too_long_once_they_are_rendered(region: RegionInABox) -> None:
    given = {"artifact_name": "x" * 50 + "-{{timestamp}}-{{run_id}}", "hostname": "{{source_name}}-" + "y" * 60}
    async with region.client() as client:
        found = await mistakes(a_run(region, client=client), options(region, **given))
    assert list(found) == ["artifact_name", "hostname"]


async def test_a_child_says_its_own_provenance_alone(region: RegionInABox) -> None:
    async with region.client() as client:
        parent, run = a_run(region, client=client), a_run(region, client=client)
        snapshot = await a_snapshot(parent, region)
        await an_image(client, region.project, "base", snapshot, description=f"A base {provenance(parent.id)}")
        plan = await checked(run, options(region, boot_disk_image_id="base"))
    assert plan.image.description == "A base"
    assert plan.image.request(run.id, snapshot.id).description == f"A base {provenance(run.id)}"


async def test_what_the_user_may_not_see_is_not_checked(region: RegionInABox) -> None:
    for operation in ("utilization_view", "ip_pool_list"):
        await region.fault(operation=operation, kind="status", status=403, error_code="Forbidden")
    async with region.client() as client:
        assert (await checked(a_run(region, client=client), options(region))).source.name == "tiny"


@pytest.mark.parametrize(
    ("status", "code", "kind"), [(401, "Unauthorized", Unauthorized), (403, "Forbidden", Forbidden)]
)
async def test_an_error_of_the_region_is_raised_as_it_is(
    region: RegionInABox, status: int, code: str, kind: type[Exception]
) -> None:
    await region.fault(operation="project_view", kind="status", status=status, error_code=code)
    async with region.client() as client:
        with pytest.raises(kind):
            await checked(a_run(region, client=client), options(region))


async def test_it_is_asked_side_by_side(region: RegionInABox) -> None:
    """Each look but those at the names waits for nothing that another one finds."""
    await ask(region, "POST", "/v1/floating-ips", name="mine", description="")
    together = _Together(8)
    async with OxideClient(region.api, region.token, transport=together) as client:
        await checked(
            a_run(region, client=client), options(region, external_ip={"floating": "mine"}, artifact_name="web")
        )
    assert together.paths == {
        f"/v1/projects/{region.project}",
        "/v1/images/tiny",  # in the silo, and in the project
        "/v1/images/web",
        "/v1/vpcs/default",
        "/v1/vpc-subnets/default",
        "/v1/floating-ips/mine",
        "/v1/utilization",
    }


class _Together(httpx.AsyncHTTPTransport):
    """Holds requests back until as many as are expected are under way."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self.paths: set[str] = set()
        self._missing = expected
        self._all = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.paths.add(request.url.path)
        self._missing -= 1
        if self._missing <= 0:
            self._all.set()
        await asyncio.wait_for(self._all.wait(), 30)
        return await super().handle_async_request(request)


async def test_what_an_earlier_attempt_kept_is_in_nobodys_way(region: RegionInABox) -> None:
    await ask(region, "POST", "/v1/floating-ips", name="mine", description="")
    given = {"name": "web", "temporary_key_pair_name": "web-key", "external_ip": {"floating": "mine"}}
    async with region.client() as client:
        first = a_run(region, client=client)
        await client.create_ssh_key("web-key", str(first.mark), KEY)
        await launch(
            client,
            region,
            "web",
            str(first.mark),
            start=False,
            external_ips=[FloatingIpOfInstance(floating_ip="mine")],
        )
        second = a_run(region, client=client, run=first.id, attempt=2)
        second.goes_on = True
        assert (await checked(second, options(region, **given))).instance.name == "web"
        found = await mistakes(a_run(region, client=client), options(region, **given))
    assert set(found) == {"name", "temporary_key_pair_name", "external_ip"}
