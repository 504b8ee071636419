"""Tunnels of a connection: ports on this host and on the guest's, and the agent, for as long as it stands."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import paramiko

from blocks.errors import CannotConnect
from tasks.ssh.plan import Tunnel
from tasks.ssh.ways import Line, connect_agent, hang_up

_LOCALHOST = "127.0.0.1"
_CONNECT = 30
_AGAIN = 0.2


class Tunnels:
    """The tunnels of one connection. They end with it, and at `close`.

    Args:
        transport: The connection to the guest.
    """

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport
        self._listeners: list[socket.socket] = []
        self._leads: dict[int, Tunnel] = {}

    def open(self, local: Sequence[Tunnel], remote: Sequence[Tunnel], patience: float) -> None:
        """Open them all. It blocks.

        Args:
            local: Ports of this host's localhost that lead to hosts as the guest sees them.
            remote: Ports of the guest's localhost that lead to hosts as this host sees them.
            patience: How many seconds a port of the guest may be taken: by a connection whose end its server has
                not noticed yet.

        Raises:
            CannotConnect: a port is taken, or the guest's server does not allow it.
        """
        try:
            for tunnel in local:
                self._open_local(tunnel)
            for tunnel in remote:
                self._open_remote(tunnel, time.monotonic() + patience)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Listen no more."""
        for listener in self._listeners:
            # Closing alone does not wake up who waits in `accept`.
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._listeners.clear()

    def _open_local(self, tunnel: Tunnel) -> None:
        try:
            listener = socket.create_server((_LOCALHOST, tunnel.listen))
        except OSError as error:
            raise CannotConnect(
                "the local tunnel cannot listen",
                resource=f"ssh_local_tunnels {tunnel}",
                why=os.strerror(error.errno or 0),
                hint=f"Is port {tunnel.listen} of this host taken, perhaps by another build? Choose another one.",
            ) from None
        self._listeners.append(listener)

        def dial() -> Line:
            return self._transport.open_channel(
                "direct-tcpip", (tunnel.host, tunnel.port), (_LOCALHOST, tunnel.listen), timeout=_CONNECT
            )

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    _in_background(_serve, connection, dial)

        _in_background(accept)

    def _open_remote(self, tunnel: Tunnel, end: float) -> None:
        self._leads[tunnel.listen] = tunnel
        while True:
            try:
                # The name and not the address: servers take it for both families.
                self._transport.request_port_forward("localhost", tunnel.listen, self._came_in)
            except paramiko.SSHException as error:
                if self._transport.is_active() and time.monotonic() < end:
                    self._transport.join(_AGAIN)
                    continue
                raise CannotConnect(
                    "the guest does not open the remote tunnel",
                    resource=f"ssh_remote_tunnels {tunnel}",
                    why=str(error),
                    hint="Is that port taken in the guest, and does its SSH server allow TCP forwarding?",
                ) from None
            return

    def _came_in(self, channel: paramiko.Channel, _origin: tuple[str, int], server: tuple[str, int]) -> None:
        # The one handler for all ports: paramiko knows no more than one.
        tunnel = self._leads[server[1]]
        _in_background(_serve, channel, lambda: socket.create_connection((tunnel.host, tunnel.port), timeout=_CONNECT))


def serve_agent(channel: paramiko.Channel) -> None:
    """Let who asks over this channel talk to this host's agent."""
    _in_background(_serve, channel, connect_agent)


def _serve(one: Line, dial: Callable[[], Line]) -> None:
    other: Line | None = None
    try:
        other = dial()
        for line in (one, other):
            line.settimeout(None)
        back = _in_background(_pump, other, one)
        _pump(one, other)
        back.join()
    except (OSError, paramiko.SSHException, EOFError, KeyError):
        return  # who uses the tunnel sees that its connection ends
    finally:
        hang_up(one)
        if other is not None:
            hang_up(other)


def _pump(source: Line, sink: Line) -> None:
    with suppress(OSError, EOFError):
        while data := source.recv(32 * 1024):
            sink.sendall(data)
    with suppress(OSError, EOFError):
        sink.shutdown(socket.SHUT_WR)


def _in_background(work: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True, name="ssh tunnel")
    thread.start()
    return thread
