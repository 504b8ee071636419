"""Waiting for an SSH server's banner.

An open port means nothing: a rack's or an emulator's network may accept a connection long before the guest listens. The
banner (RFC 4253, section 4.2) is the first sign of the server itself.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import paramiko

from blocks.errors import CannotConnect
from tasks.ssh.ways import Line, Way, hang_up

_STAGGER = 0.25
_SHORT = 1.0
_PATIENT = 15.0


async def connect_at_banner(way: Way, timeout: float) -> Line:
    """Connect as soon as a banner is there, and return the line with the banner still unread.

    A connection made too early may hang for good, while one made a moment later is answered; and a slow server may need
    seconds for its banner. So every quarter of a second a new connection is tried beside one that waits patiently.

    Args:
        way: How the server is reached.
        timeout: Seconds.

    Raises:
        CannotConnect: no banner in time, or never. It says what happened instead, and how often.
        ConnectionLost: what leads to the server broke.
    """
    failures: dict[str, int] = {}
    probes: dict[asyncio.Task[Line], bool] = {}
    clock = asyncio.get_running_loop().time
    end = clock() + timeout
    try:
        while clock() < end:
            patient = not any(probes.values())
            probes[asyncio.create_task(_probe(way, _PATIENT if patient else _SHORT))] = patient
            done, _ = await asyncio.wait(probes, timeout=_STAGGER, return_when=asyncio.FIRST_COMPLETED)
            refused = False
            for probe in done:
                del probes[probe]
                try:
                    return probe.result()
                except OSError as error:
                    reason = error.strerror or str(error) or type(error).__name__
                    failures[reason] = failures.get(reason, 0) + 1
                    refused = True
            if refused:
                await asyncio.sleep(_STAGGER)
    finally:
        for probe in probes:
            probe.cancel()
        for result in await asyncio.gather(*probes, return_exceptions=True):
            if not isinstance(result, BaseException):
                hang_up(result)
    raise CannotConnect(
        f"no SSH server answered within {round(timeout, 1):g} s",
        resource=str(way),
        why="; ".join(f"{reason} ({count} times)" for reason, count in failures.items()) or "connections hung",
        hint="Does the guest start (see the end of its serial console), does it run an SSH server on this port, and "
        "may this host reach it? A slow guest needs a longer ssh_timeout.",
    )


async def _probe(way: Way, patience: float) -> Line:
    line: Line | None = None
    try:
        async with asyncio.timeout(patience):
            line = await way.open()
            await _readable(line)
        # Servers may send other lines before the version string; both mean that one is there.
        if isinstance(line, socket.socket) and not line.recv(4, socket.MSG_PEEK):
            raise ConnectionError("connection closed before the banner")
        if isinstance(line, paramiko.Channel) and not line.recv_ready():
            raise ConnectionError("connection closed before the banner")
    except BaseException as error:
        if line is not None:
            hang_up(line)
        if isinstance(error, TimeoutError):
            raise OSError("a connection, but no banner in time" if line else "no answer to a connection") from None
        raise
    return line


async def _readable(line: Line) -> None:
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    # Of a channel this is a pipe that becomes readable with it. It is gone once the channel is closed.
    number = line.fileno()

    def seen() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(number, seen)
    try:
        await readable
    finally:
        with suppress(ValueError, OSError):
            loop.remove_reader(number)
