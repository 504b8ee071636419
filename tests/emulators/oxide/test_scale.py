"""Many of everything: lists are served page by page, and hundreds of cheap machines run side by side."""

from __future__ import annotations

import asyncio
import os
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulators.machines.cheap import CheapMachines
from emulators.oxide.records import Image, Instance, InstanceState, new_id
from emulators.oxide.region import OxideRegion
from emulators.oxide.service import Options, running
from emulators.region.home import Home
from emulators.region.sources import Source
from tests.emulators.oxide.api_document import ApiDocument
from tests.emulators.oxide.fakes import FakeMachines
from tests.emulators.oxide.kitchen import GIB, Client, Kitchen

_INSTANCES = 200
MIB = 1 << 20


def _fill(region: OxideRegion, many: int) -> None:
    """What others have in the project: records alone, because nobody looks at their disks."""
    (project,) = region.projects
    silo_id = project.silo_id
    for number in range(many):
        region.images.save(
            Image(
                id=new_id(),
                name=f"image-{number:05}",
                silo_id=silo_id,
                project_id=project.id,
                os="debian",
                version=str(number),
                size=GIB,
                block_size=512,
            )
        )
        region.instances.save(
            Instance(
                id=new_id(),
                name=f"foreign-{number:05}",
                project_id=project.id,
                hostname="foreign",
                memory=GIB,
                ncpus=1,
                state=InstanceState.STOPPED,
            )
        )


async def _all_pages(client: Client, path: str, limit: int, **query: Any) -> tuple[list[str], list[int], list[float]]:
    """Names, and what each page cost: bytes of memory at its highest, and seconds."""
    names: list[str] = []
    memory, seconds = [], []
    token: str | None = None
    while True:
        more = {"page_token": token} if token else {}
        tracemalloc.reset_peak()
        before, start = tracemalloc.get_traced_memory()[0], time.monotonic()
        page = await client.get(path, limit=limit, project="bakery", **query, **more)
        seconds.append(time.monotonic() - start)
        memory.append(tracemalloc.get_traced_memory()[1] - before)
        names += [item["name"] for item in page["items"]]
        token = page["next_page"]
        if token is None:
            return names, memory, seconds


@pytest.mark.parametrize("many", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_thousands_of_images_and_instances_are_listed_page_by_page(kitchen: Kitchen, many: int) -> None:
    async with kitchen.open() as checking:
        await asyncio.to_thread(_fill, checking.region, many)
        await checking.get("/v1/images", limit=3, project="bakery")
        client = replace(checking, http=_unchecked(checking.http))
        tracemalloc.start()
        try:
            for path, prefix, order in (
                ("/v1/images", "image", "name_ascending"),
                ("/v1/instances", "foreign", "name_descending"),
            ):
                names, memory, seconds = await _all_pages(client, path, many // 10, sort_by=order)
                expected = [f"{prefix}-{number:05}" for number in range(many)]
                assert names == (expected if order == "name_ascending" else expected[::-1])
                # Both ends of the connection are in this process, so a page is there several times over.
                print(f"{path}: {max(memory) / MIB:.1f} MiB, {max(seconds):.3f} s at most a page of {many // 10}")
                # A page costs what it holds, wherever it is: the whole list in one is the measure.
                _, (whole, _), _ = await _all_pages(client, path, many)
                print(f"{path}: {whole / MIB:.1f} MiB all at once")
                assert max(memory) < whole / 3
        finally:
            tracemalloc.stop()
        await client.http.aclose()
        client = checking
        # One of thousands is found, made and deleted without a look at the others.
        made = await client.stopped(name="mine")
        assert (await client.get("/v1/instances/mine", project="bakery"))["id"] == made["id"]
        await client.delete(f"/v1/instances/{made['id']}")


def _unchecked(http: httpx.AsyncClient) -> httpx.AsyncClient:
    """The same client without the check of replies, which costs more than the replies."""
    return httpx.AsyncClient(base_url=http.base_url, headers=http.headers, trust_env=False, timeout=60)


@pytest.mark.slow
async def test_two_hundred_instances_run_at_once(tmp_path: Path, tiny: Path, api_document: ApiDocument) -> None:
    if os.geteuid() != 0:
        pytest.skip("cheap machines need root's rights")

    async def machines(ssh_port: int) -> CheapMachines:
        return CheapMachines(ssh_port=ssh_port, root=tiny / "root")

    options = Options(home=Home(tmp_path / "state"), sources=[Source.read(tiny)])
    async with running(options, machines) as served:
        headers = {"authorization": f"Bearer {served.region.token}"}
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(
            base_url=served.api, headers=headers, trust_env=False, timeout=300, limits=limits
        ) as http:
            client = Client(http, http, served.region, FakeMachines(), image_name=options.sources[0].name)
            start = time.monotonic()

            async def one(number: int) -> str:
                made = await client.instance(name=f"i-{number}")
                address = (await client.get(f"/v1/instances/{made['id']}/external-ips"))["items"][1]["ip"]
                async with asyncio.timeout(250):
                    while True:
                        try:
                            reader, writer = await asyncio.open_connection(address, served.region.ssh_port)
                        except OSError:
                            await asyncio.sleep(0.1)
                            continue
                        banner = await reader.readline()
                        writer.close()
                        assert banner.startswith(b"SSH-2.0-")
                        return str(made["id"])

            ids = await asyncio.gather(*(one(number) for number in range(_INSTANCES)))
            print(f"{_INSTANCES} greet after {time.monotonic() - start:.1f} s")
            states = [(await client.get(f"/v1/instances/{i}"))["run_state"] for i in ids]
            assert states == ["running"] * _INSTANCES
