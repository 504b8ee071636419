"""Serving a region: its API and its control endpoint, in one event loop, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from emulators.region.connections import Protocol
from emulators.region.home import RegionError

_GRACE = 5
"""Seconds that requests under way get when the server stops."""


class _Server(uvicorn.Server):
    """A server whose signals are the region's business, since two of them share one process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True)
class Endpoints:
    """Where a region answers."""

    api: str
    control: str


def listen(address: str, former: str | None = None) -> socket.socket:
    """A listening socket for `HOST:PORT`. Port 0 is a former run's port where that is still free, else any.

    Raises:
        RegionError: the address cannot be had.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise RegionError(f"{address!r} is no HOST:PORT")
    candidates = [int(port)]
    if port == "0" and former:
        candidates.insert(0, int(former.rpartition(":")[2]))
    for candidate in candidates:
        # Only where the protocol is named does asyncio set TCP_NODELAY, without which each reply on a connection that
        # is used again waits 40 ms for the client's delayed acknowledgement of its head.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, candidate))
            sock.listen(1024)
        except OSError as error:
            sock.close()
            failure = error
            continue
        return sock
    raise RegionError(f"cannot listen on {address}: {failure.strerror}. Port 0 takes any free one")


def url(sock: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = sock.getsockname()[:2]
    return f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def serving(apps: Sequence[tuple[ASGIApp, socket.socket]]) -> AsyncIterator[None]:
    """Serve each application on its socket for as long as the block runs."""
    servers = [
        _Server(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="websockets-sansio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE,
            )
        )
        for app, _ in apps
    ]
    tasks = [asyncio.create_task(server.serve(sockets=[sock])) for server, (_, sock) in zip(servers, apps, strict=True)]
    try:
        yield
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
        for _, sock in apps:
            sock.close()


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets. Enter it before anyone can know of the server: else they kill it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
