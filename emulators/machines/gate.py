"""A gate before a guest's SSH server: connections that are greeted late, closed, cut off, or answered by another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from socket import inet_aton

from emulators.machines.behaviour import Behaviour

_POLL = 0.02
_LISTEN = "0A"
"""TCP_LISTEN as `/proc/net/tcp` has it, see proc(5)."""


class Gate:
    """Passes connections to `port` of some addresses on to `port + 1` of the same, as it was told.

    An impostor listens on `port + 2`. Those ports belong to the instance, as its addresses do.
    """

    def __init__(self, addresses: Sequence[str], port: int, behaviour: Behaviour) -> None:
        self._addresses = addresses
        self._port = port
        self._behaviour = behaviour
        self._numbers = itertools.count()
        self._dropped = 0

    async def serve(self) -> None:
        """Serve until cancelled, from the moment on at which the guest's own server listens.

        Raises:
            OSError: an address is taken.
        """
        await self._guest_listens()
        async with asyncio.TaskGroup() as connections:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                connections.create_task(self._pass_on(next(self._numbers), reader, writer))

            async with contextlib.AsyncExitStack() as stack:
                for address in self._addresses:
                    server = await asyncio.start_server(accept, address, self._port)
                    await stack.enter_async_context(server)
                await asyncio.Event().wait()

    async def _guest_listens(self) -> None:
        def listens() -> bool:
            return all(_listens(address, self._port + 1) for address in self._addresses)

        while not listens():  # noqa: ASYNC110 - the kernel tells nobody that someone has begun to
            await asyncio.sleep(_POLL)

    async def _pass_on(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behaviour = self._behaviour
        impostor = behaviour.ssh_impostor_from is not None and number >= behaviour.ssh_impostor_from
        host = writer.get_extra_info("sockname")[0]
        try:
            with contextlib.suppress(OSError):
                if number < behaviour.ssh_refuses:
                    return
                await asyncio.sleep(behaviour.ssh_banner_delay)
                far_reader, far_writer = await asyncio.open_connection(host, self._port + (2 if impostor else 1))
                try:
                    async with asyncio.timeout(self._cut_after()):
                        await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))
                except TimeoutError:
                    # Cut off, not closed: neither side is told why.
                    writer.transport.abort()
                finally:
                    far_writer.transport.abort()
        finally:
            writer.close()

    def _cut_after(self) -> float | None:
        after, most = self._behaviour.ssh_drop_after, self._behaviour.ssh_drops
        if after is None or (most is not None and self._dropped >= most):
            return None
        self._dropped += 1
        return after


def _listens(address: str, port: int) -> bool:
    """Whether someone listens there. To connect would leave its trace in the guest."""
    wanted = f"{int.from_bytes(inet_aton(address), sys.byteorder):08X}:{port:04X}"
    with Path("/proc/net/tcp").open() as lines:
        return any(line.split()[1] == wanted and line.split()[3] == _LISTEN for line in lines)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
