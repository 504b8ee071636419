"""Waiting for an SSH server's banner.

An open port means nothing: a rack's or an emulator's network may accept a connection long before the guest listens. The
banner (RFC 4253, section 4.2) is the first sign of the server itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

from blocks.errors import CannotConnect

_STAGGER = 0.25
_SHORT = 1.0
_PATIENT = 15.0


async def connect_at_banner(address: str, port: int, timeout: float) -> socket.socket:
    """Connect as soon as a banner is there, and return the connection with the banner still unread.

    A connection made too early may hang for good, while one made a moment later is answered; and a slow server may need
    seconds for its banner. So every quarter of a second a new connection is tried beside one that waits patiently.

    Args:
        address: The guest's address.
        port: Its SSH port.
        timeout: Seconds.

    Raises:
        CannotConnect: no banner in time. It says what happened instead, and how often.
    """
    failures: dict[str, int] = {}
    probes: dict[asyncio.Task[socket.socket], bool] = {}
    clock = asyncio.get_running_loop().time
    end = clock() + timeout
    try:
        while clock() < end:
            patient = not any(probes.values())
            probes[asyncio.create_task(_probe(address, port, _PATIENT if patient else _SHORT))] = patient
            done, _ = await asyncio.wait(probes, timeout=_STAGGER, return_when=asyncio.FIRST_COMPLETED)
            refused = False
            for probe in done:
                del probes[probe]
                try:
                    return probe.result()
                except OSError as error:
                    # asyncio's own text says where to, and not what happened.
                    reason = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
                    failures[reason] = failures.get(reason, 0) + 1
                    refused = True
            if refused:
                await asyncio.sleep(_STAGGER)
    finally:
        for probe in probes:
            probe.cancel()
        for result in await asyncio.gather(*probes, return_exceptions=True):
            if isinstance(result, socket.socket):
                result.close()
    raise CannotConnect(
        f"no SSH server answered within {round(timeout, 1):g} s",
        resource=f"{address} port {port}",
        why="; ".join(f"{reason} ({count} times)" for reason, count in failures.items()) or "connections hung",
        hint="Does the guest start (see the end of its serial console), does it run an SSH server on this port, and "
        "may this host reach it? A slow guest needs a longer ssh_timeout.",
    )


async def _probe(address: str, port: int, patience: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        async with asyncio.timeout(patience):
            await loop.sock_connect(connection, (address, port))
            await _readable(connection)
        # Servers may send other lines before the version string; both mean that one is there.
        if not connection.recv(4, socket.MSG_PEEK):
            raise ConnectionError("connection closed before the banner")
    except TimeoutError:
        connection.close()
        raise OSError("no banner in time") from None
    except BaseException:
        connection.close()
        raise
    return connection


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = loop.create_future()

    def seen() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(connection, seen)
    try:
        await readable
    finally:
        with suppress(ValueError, OSError):
            loop.remove_reader(connection)
