"""A fault: connections are accepted at once and served late."""

from __future__ import annotations

import asyncio
import contextlib


async def serve_late(host: str, port: int, target: int, delay: float) -> None:
    """Pass connections to `host:port` on to `host:target`, each after `delay` seconds, until cancelled.

    Raises:
        OSError: the address is taken.
    """
    async with asyncio.TaskGroup() as connections:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.create_task(_serve(reader, writer, host, target, delay))

        server = await asyncio.start_server(accept, host, port)
        async with server:
            await server.serve_forever()


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, delay: float
) -> None:
    with contextlib.suppress(OSError):
        try:
            await asyncio.sleep(delay)
            far_reader, far_writer = await asyncio.open_connection(host, port)
            await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))
        finally:
            writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
