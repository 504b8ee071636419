"""Runs on a region in a box, options, and a process that dies between two requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx

from blocks.oxide.client import OxideClient
from blocks.oxide.models import GIB, Image, Instance, Snapshot
from blocks.oxide.requests import (
    AutoPool,
    DistributedDisk,
    EphemeralIp,
    ImageCreate,
    ImageSource,
    InstanceCreate,
    NetworkInterface,
    NetworkInterfaces,
    NewDisk,
    SnapshotSource,
)
from flows.oxide_image.definition import OxideImageDefinition
from tasks.oxide.ground import OxideGround
from tasks.oxide.run import OxideRun
from tasks.teardown import Removal, tear_down
from tests.conftest import RegionInABox
from tests.tasks.support import LOG, mark_of

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRoZSBzZWNvbmQgaGFsZiBvZiBhIGtleSBwYWly"


class Silent:
    def creating(self, resource: str) -> None: ...

    def created(self, resource: str) -> None: ...


def a_run(
    region: RegionInABox, *, client: OxideClient | None = None, run: UUID | None = None, attempt: int = 1
) -> OxideRun:
    return OxideRun(
        mark_of(run, attempt),
        datetime.now(UTC),
        LOG,
        Silent(),
        client=client or region.client(),
        token=region.token,
        project=region.project,
    )


def options(region: RegionInABox, **given: Any) -> OxideImageDefinition:
    least: dict[str, Any] = {
        "boot_disk_image_id": region.image,
        "project": region.project,
        "ssh_username": "root",
        "memory": "1GiB",
        "boot_disk_size": "1GiB",
    }
    return OxideImageDefinition.model_validate({**least, **given})


def instance_request(name: str, description: str, image_id: str, **more: Any) -> InstanceCreate:
    source = DistributedDisk(disk_source=ImageSource(image_id=image_id))
    nic = NetworkInterface(name=name, description=description, vpc_name="default", subnet_name="default")
    least: dict[str, Any] = {
        "name": name,
        "description": description,
        "hostname": name,
        "memory": GIB,
        "ncpus": 1,
        "boot_disk": NewDisk(name=name, description=description, size=GIB, disk_backend=source),
        "network_interfaces": NetworkInterfaces(params=[nic]),
        "external_ips": [EphemeralIp(pool_selector=AutoPool())],
        "ssh_public_keys": [],
    }
    return InstanceCreate(**{**least, **more})


async def launch(client: OxideClient, region: RegionInABox, name: str, description: str, **more: Any) -> Instance:
    source = await client.image(region.image)
    return await client.create_instance(region.project, instance_request(name, description, source.id, **more))


async def a_snapshot(run: OxideRun, region: RegionInABox, name: str = "") -> Snapshot:
    """A run's snapshot of its instance's boot disk."""
    name = name or run.owned_name()
    instance = await launch(run.client, region, name, str(run.mark), start=False)
    return await run.client.create_snapshot(run.project, name, str(run.mark), str(instance.boot_disk_id))


async def an_image(client: OxideClient, project: str | None, name: str, snapshot: Snapshot, **more: str) -> Image:
    given = {"description": "made by someone", "os": "o", "version": "1", **more}
    return await client.create_image(project, ImageCreate(name=name, source=SnapshotSource(id=snapshot.id), **given))


async def cleaned(run: OxideRun, client: OxideClient) -> Removal:
    """What teardown does for a run."""
    return await tear_down(OxideGround(client, run.project), run.lineage.owns, logger=LOG)


async def ask(region: RegionInABox, method: str, path: str, **body: Any) -> dict[str, Any]:
    """A request that no build makes."""
    headers = {"Authorization": f"Bearer {region.token.get_secret_value()}"}
    async with httpx.AsyncClient(base_url=region.api, headers=headers, trust_env=False, timeout=30) as http:
        reply = await http.request(method, path, params={"project": region.project}, json=body or None)
        reply.raise_for_status()
    found: dict[str, Any] = reply.json() if reply.content else {}
    return found


async def requests(region: RegionInABox) -> list[str]:
    """The operations that the region was asked for so far."""
    async with httpx.AsyncClient(base_url=region.control, trust_env=False) as control:
        asked = (await control.get("/requests")).json()["requests"]
    return [request["operation"] for request in asked]


class Killed(BaseException):
    """The process is gone."""


class Mortal(httpx.AsyncHTTPTransport):
    """Carries requests until the process dies: right before or right after its request number `at` that changes things.

    From then on nothing more is sent.
    """

    def __init__(self, at: int, *, after: bool) -> None:
        super().__init__()
        self._left = at
        self._after = after
        self._dead = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._dead:
            raise Killed
        if request.method == "GET":
            return await super().handle_async_request(request)
        self._dead = self._left == 0
        self._left -= 1
        if self._dead and not self._after:
            raise Killed
        reply = await super().handle_async_request(request)
        if self._dead:
            await reply.aread()
            await reply.aclose()
            raise Killed
        return reply
