"""Quotas that are full and pools that are empty, as a region keeps them itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from blocks.errors import DefinitionError
from blocks.oxide.models import GIB
from tasks.oxide.check import check_with_region
from tasks.oxide.instances import find_address, launch_instance, wait_until_running
from tasks.oxide.plan import Plan
from tasks.oxide.room import Room
from tasks.oxide.run import OxideRun
from tests.conftest import RegionInABox
from tests.tasks.oxide.support import a_run, cleaned, launch, options, requests
from tests.tasks.support import LOG


async def control(region: RegionInABox, method: str, path: str, **body: Any) -> None:
    async with httpx.AsyncClient(base_url=region.control, trust_env=False) as endpoint:
        (await endpoint.request(method, path, json=body)).raise_for_status()


async def planned(run: OxideRun, region: RegionInABox, **given: Any) -> Plan:
    return await check_with_region.fn(run, options(region, **given), build_name="web", base=Path())


async def test_a_full_quota_is_told_before_anything_is_made(region: RegionInABox) -> None:
    async with region.client() as client:
        await launch(client, region, "busy", "")
        await control(region, "PATCH", "/silos/box", quotas={"cpus": 1, "memory": GIB, "storage": 2 * GIB})
        with pytest.raises(DefinitionError) as full:
            await planned(a_run(region, client=client), region)
        told = {mistake.option: mistake.rule for mistake in full.value.mistakes}
        assert set(told) == {"cpus", "memory", "boot_disk_size"}
        assert "0 of the silo's 1 are free" in told["cpus"]
        assert "need 2 GiB of storage, the snapshot's included" in told["boot_disk_size"]


async def test_a_build_waits_until_a_quota_has_room(region: RegionInABox) -> None:
    async with region.client() as client:
        busy = a_run(region, client=client)
        await launch(client, region, "busy", str(busy.mark))
        await control(region, "PATCH", "/silos/box", quotas={"cpus": 1})
        run = a_run(region, client=client)
        plan = await planned(run, region, capacity_retry="5m")
        room = Room(300, LOG)
        instance = await launch_instance.fn(run, plan, room)
        waiting = asyncio.create_task(wait_until_running.fn(run, instance, 60, room))
        while (await requests(region)).count("instance_start") < 2:
            assert not waiting.done()
            await asyncio.sleep(0.05)
        await cleaned(busy, client)
        assert (await waiting).run_state == "running"
        await cleaned(run, client)
    assert await region.names() == []


async def test_the_next_pool_has_the_address(region: RegionInABox) -> None:
    # Two of its four addresses are the network's own, the third the region's.
    await control(region, "POST", "/pools", name="narrow", network="127.77.0.0/30", silos={"box": False})
    async with region.client() as client:
        runs = [a_run(region, client=client) for _ in range(2)]
        addresses = []
        for run in runs:
            plan = await planned(run, region, ip_pools=["narrow", "default"])
            instance = await launch_instance.fn(run, plan, Room(0, LOG))
            addresses.append(await find_address.fn(run, instance, plan))
        assert addresses[0].startswith("127.77.0.")
        assert not addresses[1].startswith("127.77.0.")
        for run in runs:
            await cleaned(run, client)
    assert await region.names() == []


@pytest.mark.parametrize("version", ["v6", "dual"])
async def test_private_addresses_of_the_newer_family(region: RegionInABox, version: str) -> None:
    async with region.client() as client:
        run = a_run(region, client=client)
        plan = await planned(run, region, ip_version=version, external_ip="none")
        instance = await launch_instance.fn(run, plan, Room(0, LOG))
        assert (":" in await find_address.fn(run, instance, plan)) is (version == "v6")
        await cleaned(run, client)
    assert await region.names() == []
