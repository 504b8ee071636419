"""The serial console's stream over a WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.emulators.oxide.kitchen import Client


def _stream(client: Client, instance: dict[str, Any], *, token: str | None = None, query: str = "") -> connect:
    url = str(client.http.base_url).replace("http", "ws", 1).rstrip("/")
    headers = {"Authorization": f"Bearer {token or client.region.token}", "api-version": "2026060800.0.0"}
    path = f"/v1/instances/{instance['id']}/serial-console/stream{query}"
    return connect(url + path, additional_headers=headers, proxy=None)


async def _received(socket: ClientConnection, wanted: bytes) -> None:
    async with asyncio.timeout(20):
        data = b""
        while wanted not in data:
            part = await socket.recv()
            assert isinstance(part, bytes)
            data += part


async def test_it_sends_what_was_and_what_comes_and_ends_with_the_machine(client: Client) -> None:
    made = await client.becomes(await client.instance(), "running")
    client.machine(made).console.written = b"0123456789"
    async with _stream(client, made, query="?most_recent=4") as socket:
        await _received(socket, b"6789")
        client.machine(made).console.written += b"more"
        await _received(socket, b"more")
        await socket.send(b"typed")
        async with asyncio.timeout(20):
            while client.machine(made).console.typed != b"typed":
                await asyncio.sleep(0.01)
        await client.post(f"/v1/instances/{made['id']}/stop", status=202)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 20)


async def test_without_a_machine_the_reason_is_in_the_close_frame(client: Client) -> None:
    made = await client.stopped()
    async with _stream(client, made) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 20)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
        1011,
        "instance is stopped and has no active serial console server",
    )


async def test_nobody_sees_it_without_a_token(client: Client) -> None:
    made = await client.becomes(await client.instance(), "running")
    with pytest.raises(InvalidStatus) as refused:
        async with _stream(client, made, token="oxide-token-00"):
            pass
    assert refused.value.response.status_code == 401
    assert b"Unauthorized" in refused.value.response.body
    log = (await client.control.get("/requests")).json()["requests"]
    assert (log[-1]["operation"], log[-1]["status"]) == ("instance_serial_console_stream", 401)
    assert (await client.http.get(f"/v1/instances/{made['id']}/serial-console/stream")).status_code == 400
