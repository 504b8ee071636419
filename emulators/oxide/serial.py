"""Serial consoles: their history, and their stream over a WebSocket.

There is a history only while the machine runs: the first and the last MiB since its power-on.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from emulators.oxide import errors
from emulators.oxide.power import Power
from emulators.oxide.records import Instance, InstanceState

_DEFAULT = 16 * 1024
_CHUNK = 64 * 1024
_POLL = 0.05
_INTERNAL_ERROR = 1011
"""Status code of a close frame (RFC 6455, 7.4.1)."""


def check_running(instance: Instance) -> None:
    """Refuse an instance that has no serial console now."""
    match instance.state:
        case InstanceState.RUNNING | InstanceState.REBOOTING:
            return
        case InstanceState.STARTING | InstanceState.STOPPING:
            raise errors.invalid_request(f'cannot connect to serial console of instance in state "{instance.state}"')
        case _:
            raise errors.invalid_request(f"instance is {instance.state} and has no active serial console server")


def history(power: Power, instance: Instance, query: dict[str, int]) -> tuple[bytes, int]:
    """Read the history: the bytes, and the offset right after them.

    Args:
        power: the machines.
        instance: whose it is.
        query: `from_start` or `most_recent`, and perhaps `max_bytes`.

    Raises:
        ApiError: 400 unless it runs, or if the range is not said in one way.
    """
    check_running(instance)
    if ("from_start" in query) == ("most_recent" in query):
        raise errors.invalid_request('Exactly one of "from_start" or "most_recent" must be specified.')
    console = power.machine(instance.id).serial
    total = console.total
    first = query["from_start"] if "from_start" in query else max(0, total - query["most_recent"])
    first = console.kept_from(min(first, total))
    data = console.read(first, min(query.get("max_bytes", _DEFAULT), total - first))
    return data, first + len(data)


async def stream(power: Power, instance: Instance, most_recent: int, socket: WebSocket) -> None:
    """Send what the guest writes, after the last `most_recent` bytes of it, and pass on what the client types.

    Ends with the machine or with the client, whichever goes first. An instance that does not run ends it at once, as on
    the rack: the reason is in the close frame.
    """
    await socket.accept()
    try:
        check_running(instance)
    except errors.ApiError as error:
        await socket.close(_INTERNAL_ERROR, error.message)
        return
    typing = asyncio.create_task(_type(power, instance, socket))
    try:
        await _send(power, instance, most_recent, socket, typing)
    finally:
        typing.cancel()
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect):
            await typing
    if socket.client_state is WebSocketState.CONNECTED:
        await socket.close()


async def _send(
    power: Power, instance: Instance, most_recent: int, socket: WebSocket, typing: asyncio.Task[None]
) -> None:
    console = power.machine(instance.id).serial
    at = console.kept_from(max(0, console.total - most_recent))
    while not typing.done():
        # What was written before the end is sent before the end.
        over = instance.state not in {InstanceState.RUNNING, InstanceState.REBOOTING}
        while data := console.read(at, _CHUNK):
            at = console.kept_from(at) + len(data)
            await socket.send_bytes(data)
        if over:
            return
        await asyncio.wait([typing], timeout=_POLL)


async def _type(power: Power, instance: Instance, socket: WebSocket) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        data = message.get("bytes") or (message.get("text") or "").encode()
        await power.machine(instance.id).type(data)
