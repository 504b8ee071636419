"""Ten thousand resources of others: looked through page by page, and never held at once."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, SecretStr

from blocks.outscale.client import OutscaleClient
from blocks.oxide.client import OxideClient
from tasks.mark import Mark
from tasks.outscale.ground import OutscaleGround
from tasks.outscale.tokens import TAG
from tasks.oxide.ground import OxideGround
from tasks.teardown import find
from tests.conftest import Tune
from tests.tasks.support import mark_of

PAGE = 1000


def pages_of(kind: str) -> int:
    """Most of what there is are disks, or volumes."""
    return 10 if kind in ("disks", "Volumes") else 2


MOMENT = "2026-01-01T00:00:00.000Z"


class Counted(httpx.AsyncBaseTransport):
    """Replies, and counts what is held of earlier pages whenever the last page of a listing is asked for."""

    def __init__(self, reply: Callable[[httpx.Request], tuple[Any, bool]], module: str) -> None:
        self._reply = reply
        self._module = module
        self.held: list[int] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        body, is_last = self._reply(request)
        if is_last:
            held = [one for one in gc.get_objects() if isinstance(one, BaseModel)]
            self.held.append(sum(type(one).__module__ == self._module and "-id" in str(one)[:99] for one in held))
        return httpx.Response(200, json=body, request=request)


def oxide_page(ours: Mark) -> Callable[[httpx.Request], tuple[Any, bool]]:
    def reply(request: httpx.Request) -> tuple[Any, bool]:
        kind = request.url.path.rpartition("/")[2]
        number = int(request.url.params.get("page_token", "0"))
        if number == pages_of(kind):
            return {"items": [], "next_page": None}, True

        def one(place: int) -> dict[str, Any]:
            mine = kind == "disks" and (number, place) == (pages_of(kind) - 1, 0)
            return {
                "id": f"{kind}-id-{number}-{place}",
                "name": "ours" if mine else f"foreign-{number}-{place}",
                "description": str(ours) if mine else f"quotes {ours}",
                "time_created": MOMENT,
                "time_modified": MOMENT,
                "run_state": "running",
                "state": {"state": "detached"} if kind == "disks" else "ready",
                "size": 1,
                "disk_id": "d",
                "os": "o",
                "version": "1",
                "public_key": "k",
                "project_id": "p",
                "hostname": "h",
                "block_size": 512,
            }

        return {"items": [one(place) for place in range(PAGE)], "next_page": str(number + 1)}, False

    return reply


def outscale_page(ours: Mark) -> Callable[[httpx.Request], tuple[Any, bool]]:
    def reply(request: httpx.Request) -> tuple[Any, bool]:
        action = request.url.path.rpartition("/")[2]
        if action == "ReadAccounts":
            return {"Accounts": [{"AccountId": "111122223333"}]}, False
        kind = action.removeprefix("Read")
        number = int(json.loads(request.content).get("NextPageToken", "0"))

        def one(place: int) -> dict[str, Any]:
            mine = kind == "Volumes" and (number, place) == (pages_of(kind) - 1, 0)
            return {
                f"{kind.removesuffix('s')}Id": f"{kind}-id-{number}-{place}",
                "State": "available",
                "AccountId": "111122223333",
                "ImageName": f"foreign-{number}-{place}",
                "CreationDate": MOMENT,
                "Tags": [{"Key": TAG, "Value": str(ours)}] if mine else [{"Key": "quotes", "Value": str(ours)}],
            }

        is_last = number == pages_of(kind) - 1
        more = {} if is_last else {"NextPageToken": str(number + 1)}
        return {kind: [one(place) for place in range(PAGE)], **more}, is_last

    return reply


@pytest.mark.parametrize("cloud", ["oxide", "outscale"])
async def test_they_are_never_held_at_once(cloud: str, tune: Tune) -> None:
    tune(outscale_rate=100)
    ours, secret = mark_of(), SecretStr("secret")
    if cloud == "oxide":
        counted = Counted(oxide_page(ours), "blocks.oxide.models")
        async with OxideClient("http://region", secret, transport=counted) as client:
            found = await find(OxideGround(client, "p"), lambda mark: True)
        assert len(counted.held) == 6
    else:
        counted = Counted(outscale_page(ours), "blocks.outscale.models")
        async with OutscaleClient("http://region", "eu-west-2", "key", secret, transport=counted) as region:
            found = await find(OutscaleGround(region), lambda mark: True)
        assert len(counted.held) == 3
    assert [(resource.kind, resource.mark.run) for resource in found] == [
        ("disk" if cloud == "oxide" else "volume", ours.run)
    ]
    # Side by side each listing may hold the one that it looks at.
    assert max(counted.held) <= 12
