"""A region on a state directory of its own, and a client that signs as the vendor's SDK and checks every reply."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from emulators.outscale.accounts import Account
from emulators.outscale.region import OutscaleRegion
from emulators.outscale.service import Options, Running, running
from emulators.region.home import Home
from emulators.region.sources import Source
from tests.emulators.outscale.api_document import ApiDocument

Json = dict[str, Any]
T = TypeVar("T")

VM = "i-00000001"
SUBREGION = "eu-west-2a"


class SdkAuth(httpx.Auth):
    """Signs with the vendor's code."""

    requires_request_body = True

    def __init__(self, account: Account) -> None:
        from osc_sdk_python.authentication import Authentication  # type: ignore[import-untyped]
        from osc_sdk_python.credentials import Profile  # type: ignore[import-untyped]

        profile = Profile(access_key=account.access_key, secret_key=account.secret_key, region=account.region)
        self._signer = Authentication(profile, "127.0.0.1")

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        path = request.url.raw_path.decode()
        request.headers.update(self._signer.forge_headers_signed(path, request.content.decode()))
        yield request


@dataclass
class Client:
    """A region, and an account that talks to it."""

    http: httpx.AsyncClient
    control: httpx.AsyncClient
    served: Running
    account: Account
    document: ApiDocument | None

    @property
    def region(self) -> OutscaleRegion:
        return self.served.region

    async def send(self, action: str, **body: Any) -> httpx.Response:
        return await self.http.post(f"/api/v1/{action}", json=body)

    async def call(self, action: str, **body: Any) -> Json:
        if self.document is not None:
            self.document.check_request(action, body)
        response = await self.send(action, **body)
        assert response.status_code == 200, f"{action} {response.status_code}: {response.text}"
        return dict(response.json())

    async def refused(self, action: str, **body: Any) -> tuple[int, str]:
        response = await self.send(action, **body)
        return response.status_code, response.json()["Errors"][0]["Code"]

    async def fault(self, **fault: Any) -> None:
        response = await self.control.post("/faults", json=fault)
        assert response.status_code == 201, response.text

    async def requests(self) -> list[Json]:
        return list((await self.control.get("/requests")).json()["requests"])

    async def image(self) -> Json:
        return dict((await self.call("ReadImages", Filters={"ImageNames": ["debian-12"]}))["Images"][0])

    async def read_volume(self, volume: Json) -> Json | None:
        found = await self.call("ReadVolumes", Filters={"VolumeIds": [volume["VolumeId"]]})
        return next(iter(found["Volumes"]), None)

    async def volume_becomes(self, volume: Json, state: str, link: str | None = None) -> Json:
        async def look() -> Json | None:
            seen = await self.read_volume(volume)
            assert seen is not None
            links = [linked["State"] for linked in seen["LinkedVolumes"]]
            return seen if seen["State"] == state and links == ([link] if link else []) else None

        return await until(look)

    async def volume(self, **body: Any) -> Json:
        made = await self.call("CreateVolume", **{"SubregionName": SUBREGION, "Size": 1, **body})
        return await self.volume_becomes(made["Volume"], "available")

    async def volume_of_image(self, **body: Any) -> Json:
        mapping = (await self.image())["BlockDeviceMappings"][0]
        return await self.volume(SnapshotId=mapping["Bsu"]["SnapshotId"], **body)

    async def link(self, volume: Json, device: str) -> Json:
        await self.call("LinkVolume", VolumeId=volume["VolumeId"], VmId=VM, DeviceName=device)
        return await self.volume_becomes(volume, "in-use", "attached")

    async def unlink(self, volume: Json, **body: Any) -> Json:
        await self.call("UnlinkVolume", VolumeId=volume["VolumeId"], **body)
        return await self.volume_becomes(volume, "available")

    async def snapshot(self, volume: Json, state: str = "completed", **body: Any) -> Json:
        made = (await self.call("CreateSnapshot", VolumeId=volume["VolumeId"], **body))["Snapshot"]

        async def look() -> Json | None:
            found = await self.call("ReadSnapshots", Filters={"SnapshotIds": [made["SnapshotId"]]})
            return dict(found["Snapshots"][0]) if found["Snapshots"][0]["State"] == state else None

        return await until(look)

    async def image_becomes(self, image: Json, state: str) -> Json:
        async def look() -> Json | None:
            found = await self.call("ReadImages", Filters={"ImageIds": [image["ImageId"]]})
            return dict(found["Images"][0]) if found["Images"][0]["State"] == state else None

        return await until(look)

    async def registered(self, name: str, snapshot: Json, **body: Any) -> Json:
        mappings = [{"DeviceName": "/dev/sda1", "Bsu": {"SnapshotId": snapshot["SnapshotId"]}}]
        asked = {"ImageName": name, "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": mappings, **body}
        return dict((await self.call("CreateImage", **asked))["Image"])


async def until(look: Callable[[], Awaitable[T | None]], seconds: float = 20) -> T:
    """What `look` finds, as soon as it finds something."""
    async with asyncio.timeout(seconds):
        # The region tells nobody when something has changed: clients have to look again, too.
        while not (found := await look()):
            await asyncio.sleep(0.005)
    return found


def partition_table(*partitions: tuple[int, int]) -> bytes:
    """An MBR with partitions given as (first sector, sectors)."""
    entries = b"".join(struct.pack("<B3xB3xII", 0, 0x83, first, count) for first, count in partitions)
    return bytes(446) + entries.ljust(64, b"\0") + b"\x55\xaa"


class Kitchen:
    """Starts regions on a state directory, as often as a test likes."""

    def __init__(self, directory: Path, document: ApiDocument | None) -> None:
        self.home = Home(directory / "state")
        self.source = directory / "image"
        self.source.mkdir()
        (self.source / "disk.raw").write_bytes(partition_table((2048, 65536)))
        told = {"name": "debian-12", "description": "for tests", "os": "debian", "version": "12"}
        (self.source / "image.json").write_text(json.dumps(told))
        self._document = document

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Client]:
        options = {"devices": False, "sources": [Source.read(self.source)], **options}
        async with (
            running(Options(home=self.home, **options)) as served,
            self.client(served, served.region.owner) as client,
        ):
            yield client

    @asynccontextmanager
    async def client(self, served: Running, account: Account) -> AsyncIterator[Client]:
        async with (
            httpx.AsyncClient(
                base_url=served.api.removesuffix("/api/v1"),
                auth=SdkAuth(account),
                trust_env=False,
                # Nothing here speaks TLS, and the certificates of the world take long to read.
                verify=False,
                timeout=30,
            ) as http,
            httpx.AsyncClient(base_url=served.control, trust_env=False, verify=False, timeout=30) as control,
        ):
            yield Client(http, control, served, account, self._document)
