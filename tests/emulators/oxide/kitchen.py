"""A region on a state directory of its own, and a client that checks every reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx

from emulators.oxide import images
from emulators.oxide.region import OxideRegion
from emulators.oxide.service import Options, running
from emulators.region.home import Home
from tests.emulators.oxide.api_document import ApiDocument
from tests.emulators.oxide.fakes import FakeMachine, FakeMachines

GIB = 1 << 30
Json = dict[str, Any]
T = TypeVar("T")


@dataclass
class Client:
    """A region, and someone who talks to it."""

    http: httpx.AsyncClient
    control: httpx.AsyncClient
    region: OxideRegion
    machines: FakeMachines
    names: list[int] = field(default_factory=lambda: [0])
    image_name: str = "debian-12"

    def name(self) -> str:
        self.names[0] += 1
        return f"thing-{self.names[0]}"

    async def get(self, path: str, **query: str | int) -> Json:
        return _body(await self.http.get(path, params=query or None), 200)

    async def post(self, path: str, body: Json | None = None, status: int = 201, **query: str) -> Json:
        return _body(await self.http.post(path, json=body, params=query or None), status)

    async def put(self, path: str, body: Json, status: int = 200, **query: str) -> Json:
        return _body(await self.http.put(path, json=body, params=query or None), status)

    async def told(self, path: str, body: Any = None, method: str = "POST") -> Json:
        """What the control endpoint answers."""
        return _body(await self.control.request(method, path, json=body), 200)

    async def delete(self, path: str, status: int = 204, **query: str) -> Json:
        return _body(await self.http.delete(path, params=query or None), status)

    async def fault(self, **fault: Any) -> Json:
        return _body(await self.control.post("/faults", json=fault), 201)

    def machine(self, instance: Json) -> FakeMachine:
        return self.machines.made[instance["id"]]

    async def image(self) -> Json:
        return await self.get(f"/v1/images/{self.image_name}")

    async def instance(self, status: int = 201, **changes: Any) -> Json:
        """An instance as a builder makes it."""
        name = changes.pop("name", None) or self.name()
        body = {
            "name": name,
            "description": "of a test",
            "hostname": name,
            "memory": GIB,
            "ncpus": 1,
            "boot_disk": {
                "type": "create",
                "name": name,
                "description": "",
                "size": GIB,
                "disk_backend": {
                    "type": "distributed",
                    "disk_source": {"type": "image", "image_id": (await self.image())["id"]},
                },
            },
            "external_ips": [{"type": "ephemeral"}],
            "auto_restart_policy": "never",
            **changes,
        }
        return await self.post("/v1/instances", body, status, project="bakery")

    async def becomes(self, instance: Json, state: str) -> Json:
        async def look() -> Json | None:
            seen = await self.get(f"/v1/instances/{instance['id']}")
            return seen if seen["run_state"] == state else None

        return await until(look)

    async def stopped(self, **changes: Any) -> Json:
        return await self.instance(start=False, **changes)

    async def snapshot(self) -> Json:
        instance = await self.stopped()
        body = {"name": self.name(), "description": "s", "disk": instance["boot_disk_id"]}
        return await self.post("/v1/snapshots", body, project="bakery")

    async def made_image(self, status: int = 201, **changes: Any) -> Json:
        query = {"project": changes.pop("project")} if "project" in changes else {}
        body = {
            "name": changes.pop("name", None) or self.name(),
            "description": "i",
            "os": "debian",
            "version": "12",
            "source": {"type": "snapshot", "id": changes.pop("snapshot", None) or (await self.snapshot())["id"]},
        }
        return await self.post("/v1/images", body, status, **query)

    async def disk(self, source: Json | None = None, status: int = 201, size: int = GIB, **changes: Any) -> Json:
        """A disk of its own, blank unless its source is said."""
        body = {
            "name": changes.pop("name", None) or self.name(),
            "description": "d",
            "size": size,
            "disk_backend": {
                "type": "distributed",
                "disk_source": source or {"type": "blank", "block_size": 512},
            },
        }
        return await self.post("/v1/disks", body, status, project="bakery")

    @asynccontextmanager
    async def user(self, silo: str, name: str, role: str = "collaborator") -> AsyncIterator[Client]:
        """The region as another user sees it."""
        made = await self.told("/users", {"silo": silo, "name": name, "role": role})
        headers = {**self.http.headers, "authorization": f"Bearer {made['token']}"}
        async with httpx.AsyncClient(
            base_url=self.http.base_url, headers=headers, event_hooks=self.http.event_hooks, trust_env=False
        ) as http:
            yield replace(self, http=http)

    async def key(self) -> Json:
        body = {"name": self.name(), "description": "", "public_key": "ssh-ed25519 AAAA test"}
        return await self.post("/v1/me/ssh-keys", body)


def _body(response: httpx.Response, status: int) -> Json:
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    return dict(response.json()) if response.content else {}


async def until(look: Callable[[], Awaitable[T | None]], seconds: float = 20) -> T:
    """What `look` finds, as soon as it finds something."""
    async with asyncio.timeout(seconds):
        # The region tells nobody when something has changed: clients have to look again, too.
        while not (found := await look()):
            await asyncio.sleep(0.005)
    return found


def start_of(disk: Path, count: int = 8) -> bytes:
    """The first bytes of a disk file, the rest of which is a gibibyte of nothing."""
    with disk.open("rb") as file:
        return file.read(count)


class Kitchen:
    """Starts regions on a state directory, as often as a test likes."""

    def __init__(self, directory: Path, document: ApiDocument) -> None:
        self.home = Home(directory / "state")
        self.source = directory / "image"
        self.source.mkdir()
        (self.source / "disk.raw").write_bytes(b"bootable")
        told = {"name": "debian-12", "description": "for tests", "os": "debian", "version": "12"}
        (self.source / "image.json").write_text(json.dumps(told))
        self._document = document

    @asynccontextmanager
    async def open(self, machines: FakeMachines | None = None, **options: Any) -> AsyncIterator[Client]:
        fakes = machines or FakeMachines()

        async def check(response: httpx.Response) -> None:
            await response.aread()
            self._document.check(response)

        async def make(_: int) -> FakeMachines:
            return fakes

        settings = Options(
            home=self.home,
            sources=[images.source(self.source)],
            ssh_port=options.pop("ssh_port", 2222),
            **options,
        )
        async with (
            running(settings, make) as served,
            httpx.AsyncClient(
                base_url=served.api,
                headers={"authorization": f"Bearer {served.region.token}", "api-version": "2026060800.0.0"},
                event_hooks={"response": [check]},
                trust_env=False,
                timeout=30,
            ) as http,
            httpx.AsyncClient(base_url=served.control, trust_env=False, timeout=30) as control,
        ):
            yield Client(http, control, served.region, fakes)
