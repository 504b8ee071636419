"""QEMU's machine protocol over a socket pair that QEMU inherits: no path, and nobody else can connect.

See "QEMU Machine Protocol Specification" in QEMU's documentation: one JSON object a line, replies in order of the
commands, events in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any


class Qmp:
    """One connection to a QEMU process."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_event: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_event = on_event
        self._replies: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._lock = asyncio.Lock()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, end: socket.socket, on_event: Callable[[str, dict[str, Any]], None]) -> Qmp:
        """Speak over this end of a socket pair; it is closed by `close`."""
        end.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=16 * 1024 * 1024)
        return cls(reader, writer, on_event)

    async def greet(self) -> None:
        """Wait for QEMU's greeting and leave capability negotiation.

        Raises:
            ConnectionError: QEMU has ended.
        """
        await self._reply()
        await self.command("qmp_capabilities")

    async def command(self, name: str, **arguments: object) -> Any:
        """Run a command and return its result.

        Raises:
            ConnectionError: QEMU has ended.
            RuntimeError: QEMU refused the command.
        """
        message: dict[str, object] = {"execute": name}
        if arguments:
            message["arguments"] = arguments
        async with self._lock:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()
            reply = await self._reply()
        if "error" in reply:
            raise RuntimeError(f"QEMU refused {name}: {reply['error'].get('desc')}")
        return reply["return"]

    async def ended(self) -> None:
        """Wait until QEMU has closed its end, and all its events were handled."""
        await asyncio.shield(self._task)

    async def close(self) -> None:
        """Close this end."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _reply(self) -> dict[str, Any]:
        reply = await self._replies.get()
        if reply is None:
            self._replies.put_nowait(None)
            raise ConnectionError("QEMU has ended")
        return reply

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                message = json.loads(line)
                if "event" in message:
                    self._on_event(message["event"], message.get("data", {}))
                else:
                    self._replies.put_nowait(message)
        except (OSError, ValueError):
            # A killed QEMU leaves half a line or a reset; either way there is no more to come.
            pass
        finally:
            self._replies.put_nowait(None)
