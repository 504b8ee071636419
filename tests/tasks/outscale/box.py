"""An OUTSCALE region that serves in this process, without devices, and runs against it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from pydantic import SecretStr

from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import Image, ImageFilters
from emulators.outscale.accounts import Account
from emulators.outscale.service import Options, Running, running
from emulators.region.home import Home
from emulators.region.sources import Source
from flows.outscale_image.definition import OutscaleImageDefinition
from tasks.mark import Lineage, Mark
from tasks.outscale.ground import OutscaleGround
from tasks.outscale.run import OutscaleRun
from tasks.teardown import Removal, tear_down
from tests.tasks.support import LOG, mark_of

OTHER = "222233334444"
FRIEND = "555566667777"


class Cut(BaseException):
    """The end of a process, in the middle of whatever it does."""


class Silent:
    def creating(self, resource: str) -> None: ...

    def created(self, resource: str) -> None: ...


class CutClient(OutscaleClient):
    """A client whose process ends before its n-th request is sent, or after it was carried out."""

    at: int | None = None
    after = False

    async def _call(self, action: str, resource: str, body: dict[str, Any], *, repeatable: bool) -> dict[str, Any]:
        number = len(self.said)
        self.said.append(action)
        if number == self.at and not self.after:
            raise Cut(action)
        reply = await super()._call(action, resource, body, repeatable=repeatable)
        if number == self.at:
            raise Cut(action)
        return reply

    @property
    def said(self) -> list[str]:
        """The calls so far."""
        calls: list[str] = self.__dict__.setdefault("_said", [])
        return calls


@dataclass
class Box:
    """The region, as the account of the VM sees it."""

    served: Running
    clients: list[OutscaleClient] = field(default_factory=list)

    @property
    def owner(self) -> Account:
        return self.served.region.owner

    def client(self, account_id: str | None = None, kind: type[OutscaleClient] = OutscaleClient) -> OutscaleClient:
        found = next(a for a in self.served.region.accounts if account_id in (None, a.account_id))
        client = kind(self.served.api, found.region, found.access_key, SecretStr(found.secret_key), verify=False)
        self.clients.append(client)
        return client

    def run(self, mark: Mark | None = None, client: OutscaleClient | None = None) -> OutscaleRun:
        return OutscaleRun(mark or mark_of(), datetime.now(UTC), LOG, Silent(), client=client or self.client())

    async def inventory(self) -> dict[str, list[dict[str, Any]]]:
        resources: dict[str, list[dict[str, Any]]] = self.served.region.inventory()["resources"]
        return resources

    async def operations(self) -> list[str]:
        async with httpx.AsyncClient(base_url=self.served.control, trust_env=False, timeout=30) as control:
            requests = (await control.get("/requests")).json()["requests"]
        return [request["operation"] for request in requests]

    async def fault(self, **fault: Any) -> None:
        async with httpx.AsyncClient(base_url=self.served.control, trust_env=False, timeout=30) as control:
            (await control.post("/faults", json=fault)).raise_for_status()

    async def source(self, name: str = "base") -> Image:
        (image,) = [image async for image in self.client().images(ImageFilters(image_names=[name]))]
        return image

    async def definition(self, **options: Any) -> OutscaleImageDefinition:
        if not {"from_scratch", "source_omi_filter", "source_omi"} & options.keys():
            options["source_omi"] = (await self.source()).image_id
        return OutscaleImageDefinition.model_validate({"build_name": "test", **options})

    async def gone(self, run: UUID, attempts: int = 1, timeout: float = 20) -> Removal:
        """Teardown, by a process that knows nothing but the run's id."""
        ground = OutscaleGround(self.client(), Lineage(run, attempts))
        return await tear_down(ground, lambda mark: mark.run == run, logger=LOG, timeout=timeout)


def image_directory(directory: Path, name: str, **told: str) -> Path:
    directory.mkdir()
    with (directory / "disk.raw").open("wb") as disk:
        disk.truncate(1 << 20)
    about = {"name": name, "description": "for tests", "os": "debian", "version": "12", **told}
    (directory / "image.json").write_text(json.dumps(about))
    return directory


@asynccontextmanager
async def opened(
    directory: Path,
    tune: Callable[..., None],
    *,
    own: Sequence[str] = ("base",),
    public: Sequence[str] = ("public",),
    **options: Any,
) -> AsyncIterator[Box]:
    """A region with OMIs of the account and public ones of the vendor's."""
    directory.mkdir()
    own_sources = [Source.read(image_directory(directory / name, name)) for name in own]
    public_sources = [Source.read(image_directory(directory / name, name)) for name in public]
    asked = Options(
        home=Home(directory / "state"),
        sources=own_sources,
        public_sources=public_sources,
        other_accounts=[OTHER],
        devices=False,
        **options,
    )
    async with running(asked) as served:
        tune(outscale_rate=100, outscale_metadata=served.metadata, teardown_timeout=20)
        box = Box(served)
        try:
            yield box
        finally:
            for client in box.clients:
                await client.__aexit__(None, None, None)
