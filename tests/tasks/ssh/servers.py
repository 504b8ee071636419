"""SSH servers that answer as a test wants them to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import paramiko


@contextmanager
def listening(serve: Callable[[socket.socket], None], port: int = 0) -> Iterator[int]:
    """Hand every connection to `serve` in a thread of its own; all are closed at the end. Yields the port.

    A client may hang up and come again whenever it likes, so `serve` ends where its connection does.
    """
    listener = socket.create_server(("127.0.0.1", port))
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        with suppress(ConnectionError):
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                thread = threading.Thread(target=answer, args=(connection,), daemon=True)
                threads.append(thread)
                thread.start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        # Closing alone does not wake up who waits in `accept`.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(10)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
        for connection in connections:
            connection.close()


class Door(paramiko.ServerInterface):
    """Lets in by key after some refusals, and has no commands."""

    def __init__(self, methods: str, lets_in: Callable[[], bool]) -> None:
        self._methods = methods
        self._lets_in = lets_in

    def get_allowed_auths(self, username: str) -> str:
        return self._methods

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.common.AUTH_SUCCESSFUL if self._lets_in() else paramiko.common.AUTH_FAILED


def door(
    host_key: paramiko.PKey, *, methods: str = "publickey", lets_in: Callable[[], bool] = lambda: True
) -> Callable[[socket.socket], None]:
    """A server that does no more than let someone in, or not."""

    def serve(connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        transport.add_server_key(host_key)
        with suppress(Exception):
            transport.start_server(server=Door(methods, lets_in))
            transport.join(30)
        transport.close()

    return serve


def silent(connection: socket.socket) -> None:
    """Say nothing until the other end goes."""
    with suppress(OSError):
        while connection.recv(1024):
            pass


def hanging_up(connection: socket.socket) -> None:
    """Say nothing, and go."""
    connection.close()
