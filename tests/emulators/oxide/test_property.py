"""Whatever a client sends, no operation answers 500, and every reply is one that the document allows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.emulators.oxide.api_document import ApiDocument
from tests.emulators.oxide.generate import Existing, Generator
from tests.emulators.oxide.kitchen import GIB, Client, Kitchen

_EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "5"))
"""Requests to each operation. Set it higher to look for more."""

_NAMES = ["default", "debian-12", "net0", "x", *(f"new-{number}" for number in range(12))]


@pytest.fixture
async def world(kitchen: Kitchen) -> AsyncIterator[Client]:
    """A region with one of each thing."""
    async with kitchen.open() as client:
        await client.key()
        instance = await client.stopped(name="thing-1")
        await client.becomes(await client.instance(name="thing-2"), "running")
        group = {"name": "g", "description": "", "policy": "fail", "failure_domain": "sled"}
        await client.post("/v1/anti-affinity-groups", group, project="bakery")
        await client.post("/v1/floating-ips", {"name": "f", "description": ""}, project="bakery")
        blank = {"type": "distributed", "disk_source": {"type": "importing_blocks", "block_size": 512}}
        body = {"name": "blank", "description": "", "size": GIB, "disk_backend": blank}
        await client.post("/v1/disks", body, project="bakery")
        snapshot = {"name": "s", "description": "", "disk": instance["boot_disk_id"]}
        await client.post("/v1/snapshots", snapshot, project="bakery")
        yield client


def _requests(document: ApiDocument) -> st.SearchStrategy[tuple[str, str, dict[str, Any], Any]]:
    names = st.integers(0, 9).flatmap(lambda n: st.text(max_size=70) if n == 0 else st.sampled_from(_NAMES))
    generator = Generator(document.document["components"], names)
    return st.sampled_from([op for op in document.operations if _is_plain(op[3])]).flatmap(
        lambda found: _request(generator, *found[1:])
    )


def _is_plain(operation: dict[str, Any]) -> bool:
    return "x-dropshot-websocket" not in operation


@st.composite
def _request(
    draw: st.DrawFn, generator: Generator, method: str, path: str, operation: dict[str, Any]
) -> tuple[str, str, dict[str, Any], Any]:
    parameters: dict[str, Any] = {}
    for parameter in operation.get("parameters", []):
        name = parameter["name"]
        if parameter.get("required") or draw(st.integers(0, 4)) == 0:
            parameters[name] = draw(generator.value(parameter["schema"], name))
    # Names are found with their project, ids without.
    scoped = any(parameter["name"] == "project" for parameter in operation.get("parameters", []))
    if scoped and any(isinstance(value, Existing) and value.by_name for value in parameters.values()):
        parameters.setdefault("project", "bakery")
    content = next(iter(operation.get("requestBody", {}).get("content", {}).values()), None)
    return method, path, parameters, draw(generator.value(content["schema"])) if content else None


def _resolved(value: Any, client: Client) -> Any:
    """The same with the ids and names of what exists now."""
    match value:
        case Existing(room, place, by_name):
            things = sorted(getattr(client.region, room), key=lambda thing: thing.time_created)
            if room == "tokens":
                # Without the first one, the client's own, all else would be a 401.
                things = things[1:]
            if not things:
                return "6d3f0a2e-7c1f-4a57-9d0a-2f2f0f2f0f2f"
            thing = things[place % len(things)]
            return thing.name if by_name else thing.id
        case dict():
            return {key: _resolved(entry, client) for key, entry in value.items()}
        case list():
            return [_resolved(entry, client) for entry in value]
    return value


async def _send(client: Client, method: str, path: str, parameters: dict[str, Any], body: Any) -> httpx.Response:
    query = {}
    for name, value in _resolved(parameters, client).items():
        text = value if isinstance(value, str) else str(value)
        if "{" + name + "}" in path:
            path = path.replace("{" + name + "}", quote(text, safe="") or "x")
        else:
            query[name] = text
    sent = _resolved(body, client)
    if path in {"/device/auth", "/device/token"} and isinstance(sent, dict):
        return await client.http.request(method, path, params=query, data=sent)
    return await client.http.request(method, path, params=query, json=sent)


async def test_nothing_that_is_sent_is_too_much(world: Client, api_document: ApiDocument) -> None:
    loop = asyncio.get_running_loop()
    succeeded: set[str] = set()

    @settings(
        max_examples=_EXAMPLES * len(api_document.operations),
        deadline=None,
        derandomize="PROPERTY_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(_requests(api_document))
    def all_is_well(request: tuple[str, str, dict[str, Any], Any]) -> None:
        # The client's hook checks the reply.
        reply = asyncio.run_coroutine_threadsafe(_send(world, *request), loop).result(30)
        assert reply.status_code < 500 or reply.status_code in {503, 507}, reply.text
        if reply.is_success:
            succeeded.add(f"{request[0]} {request[1]}")

    await asyncio.to_thread(all_is_well)
    # What is refused at its first check shows little.
    assert len(succeeded) > len(api_document.operations) // 3, sorted(succeeded)
