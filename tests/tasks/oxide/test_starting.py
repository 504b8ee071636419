"""From the create of an instance until it runs: room that is short, starts that fail, addresses of all kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from blocks.errors import CapacityExhausted, EndedBadly, NotOurs, WaitExpired
from blocks.oxide.models import Instance
from tasks.oxide.check import check_with_region
from tasks.oxide.instances import find_address, launch_instance, wait_until_running
from tasks.oxide.plan import Plan
from tasks.oxide.room import Room
from tasks.oxide.run import OxideRun
from tests.conftest import RegionInABox
from tests.tasks.oxide.support import a_run, ask, cleaned, options, requests
from tests.tasks.support import LOG

NO_ADDRESS = {"status": 507, "error_code": "InsufficientCapacity", "message": "No external IP addresses available"}


@pytest.fixture
async def run(region: RegionInABox) -> AsyncIterator[OxideRun]:
    """A run; whatever became of it, teardown leaves nothing of it."""
    run = a_run(region)
    async with run.client:
        yield run
        (await cleaned(run, run.client)).raise_for_left()
        assert [name for name in await region.names() if not name.startswith("floating_ips/")] == []


async def planned(run: OxideRun, region: RegionInABox, **given: Any) -> Plan:
    return await check_with_region.fn(run, options(region, **given), build_name="web", base=Path())


async def started(run: OxideRun, plan: Plan, *, patience: float = 0, timeout: float = 30) -> Instance:
    room = Room(patience, LOG)
    instance = await launch_instance.fn(run, plan, room)
    return await wait_until_running.fn(run, instance, timeout, room)


async def test_it_runs(run: OxideRun, region: RegionInABox) -> None:
    plan = await planned(run, region)
    instance = await started(run, plan)
    assert instance.run_state == "running"
    assert (await find_address.fn(run, instance, plan)).startswith("127.")


async def test_a_start_that_the_create_swallowed_is_made_again(run: OxideRun, region: RegionInABox) -> None:
    await region.fault(operation="instance_create", kind="start_fails")
    assert (await started(run, await planned(run, region))).run_state == "running"


async def test_the_second_start_says_what_the_create_swallowed(run: OxideRun, region: RegionInABox) -> None:
    await region.fault(operation="instance_create", kind="start_fails")
    await region.fault(operation="instance_start", kind="capacity")
    with pytest.raises(CapacityExhausted, match="No sleds can fit") as short:
        await started(run, await planned(run, region))
    assert "capacity_retry" in short.value.hint


@pytest.mark.parametrize("operation", ["instance_create", "instance_start"])
async def test_room_is_waited_for(run: OxideRun, region: RegionInABox, operation: str) -> None:
    if operation == "instance_start":
        await region.fault(operation="instance_create", kind="start_fails")
    await region.fault(operation=operation, kind="capacity", count=3)
    assert (await started(run, await planned(run, region), patience=60)).run_state == "running"
    assert (await requests(region)).count(operation) == 4


@pytest.mark.parametrize("operation", ["instance_create", "instance_start"])
async def test_room_is_waited_for_within_a_limit(run: OxideRun, region: RegionInABox, operation: str) -> None:
    if operation == "instance_start":
        await region.fault(operation="instance_create", kind="start_fails")
    await region.fault(operation=operation, kind="capacity", count=None)
    with pytest.raises(CapacityExhausted, match=r"asked again for 0\.3 s"):
        await started(run, await planned(run, region), patience=0.3)
    assert (await requests(region)).count(operation) > 1


async def test_the_next_pool_is_asked_when_one_has_no_address(run: OxideRun, region: RegionInABox) -> None:
    async with region.client() as client:
        (pool,) = [pool async for pool in client.ip_pools()]
    plan = await planned(run, region, ip_pools=["default", pool.id])
    assert [request.external_ips[0].model_dump()["pool_selector"]["pool"] for request in plan.requests()] == [
        "default",
        pool.id,
    ]
    await region.fault(operation="instance_create", kind="status", **NO_ADDRESS)
    assert (await started(run, plan)).run_state == "running"
    assert (await requests(region)).count("instance_create") == 2


async def test_another_shortage_is_no_reason_for_another_pool(run: OxideRun, region: RegionInABox) -> None:
    plan = await planned(run, region, ip_pools=["default", "default"])
    await region.fault(operation="instance_create", kind="capacity")
    with pytest.raises(CapacityExhausted, match="Storage Limit"):
        await started(run, plan)
    assert (await requests(region)).count("instance_create") == 1


async def test_no_pool_has_an_address(run: OxideRun, region: RegionInABox) -> None:
    plan = await planned(run, region, ip_pools=["default", "default"])
    await region.fault(operation="instance_create", kind="status", count=None, **NO_ADDRESS)
    with pytest.raises(CapacityExhausted, match="No external IP addresses"):
        await started(run, plan)
    assert (await requests(region)).count("instance_create") == 2


async def test_an_instance_that_failed(run: OxideRun, region: RegionInABox) -> None:
    await region.fault(operation="instance_create", kind="instance_failed")
    with pytest.raises(EndedBadly, match="the instance is failed"):
        await started(run, await planned(run, region))


async def test_an_instance_that_vanished(run: OxideRun, region: RegionInABox) -> None:
    plan = await planned(run, region)
    instance = await launch_instance.fn(run, plan, Room(0, LOG))
    (await cleaned(run, run.client)).raise_for_left()
    with pytest.raises(EndedBadly, match="vanished"):
        await wait_until_running.fn(run, instance, 30, Room(0, LOG))


async def test_an_instance_that_never_gets_there(run: OxideRun, region: RegionInABox) -> None:
    plan = await planned(run, region)
    instance = await launch_instance.fn(run, plan, Room(0, LOG))
    instance = await wait_until_running.fn(run, instance, 30, Room(0, LOG))
    await run.client.stop_instance(instance.id)
    await region.fault(operation="instance_view", kind="status", status=503, count=None)
    with pytest.raises(WaitExpired, match=r"not running after 0\.2 s"):
        await wait_until_running.fn(run, instance, 0.2, Room(0, LOG))
    await _without_faults(region)


async def _without_faults(region: RegionInABox) -> None:
    async with httpx.AsyncClient(base_url=region.control, trust_env=False) as control:
        await control.delete("/faults")


async def test_a_floating_ip(run: OxideRun, region: RegionInABox) -> None:
    floating = await ask(region, "POST", "/v1/floating-ips", name="mine", description="")
    plan = await planned(run, region, external_ip={"floating": "mine"})
    assert await find_address.fn(run, await started(run, plan), plan) == floating["ip"]


async def test_no_external_address(run: OxideRun, region: RegionInABox) -> None:
    plan = await planned(run, region, external_ip="none")
    instance = await started(run, plan)
    (interface,) = await run.client.network_interfaces(instance.id)
    assert await find_address.fn(run, instance, plan) == interface.ip
    assert not interface.ip.startswith("127.")
    assert {ip.kind for ip in await run.client.external_ips(instance.id)} == {"snat"}


async def test_extra_disks_go_with_the_build(run: OxideRun, region: RegionInABox) -> None:
    plan = await planned(run, region, extra_disks=[{"name": "data", "size": "1GiB"}, {"name": "copy", "image": "tiny"}])
    await started(run, plan)
    disks = [name for name in await region.names() if name.startswith("disks/")]
    assert disks == sorted(f"disks/{run.owned_name(part)}" for part in ("", "copy", "data"))


async def test_a_lost_reply_makes_no_second_instance(run: OxideRun, region: RegionInABox) -> None:
    await region.fault(operation="instance_create", kind="drop_after")
    await started(run, await planned(run, region))
    assert [name for name in await region.names() if name.startswith("instances/")] == [f"instances/{run.owned_name()}"]


async def test_an_instance_of_that_name_that_is_not_ours(run: OxideRun, region: RegionInABox) -> None:
    plan = await planned(run, region, name="web")
    theirs = a_run(region)
    async with theirs.client:
        other = await planned(theirs, region, name="web")
        await launch_instance.fn(theirs, other, Room(0, LOG))
        with pytest.raises(NotOurs, match="did not make"):
            await launch_instance.fn(run, plan, Room(0, LOG))
        (await cleaned(theirs, theirs.client)).raise_for_left()
