"""Ways to an SSH server: straight, through a proxy, through a bastion. Each opens lines to it, one after the other."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeAlias

import paramiko
from python_socks import ProxyConnectionError, ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy as ProxyClient

from blocks.errors import CannotConnect, ConnectionLost
from tasks.ssh.plan import Bastion, Proxy
from tasks.ssh.threads import in_thread

Line: TypeAlias = socket.socket | paramiko.Channel

_OPEN_CHANNEL = 30
_AGENT = 10
# 407 is right (RFC 9110, section 15.5.8); tinyproxy says 401 to a wrong password.
_PROXY_WANTS_LOG_IN = (401, 407)


class Way(Protocol):
    """How a server is reached."""

    async def open(self) -> Line:
        """Open one line to the server.

        Raises:
            OSError: it was not opened, and may be a little later.
            CannotConnect: it never will be.
            ConnectionLost: what leads to the server broke.
        """
        ...


class Straight:
    """A TCP connection. A name with several addresses is tried at all of them, in turn."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._turns = itertools.count()

    def __str__(self) -> str:
        return f"{self._host} port {self._port}"

    async def open(self) -> socket.socket:
        """Connect; see `Way.open`."""
        loop = asyncio.get_running_loop()
        turn = next(self._turns)
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            # Its number is none of errno's.
            raise OSError(f"the name cannot be resolved ({error.strerror})") from None
        family, kind, protocol, _, address = found[turn % len(found)]
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
        except OSError as error:
            connection.close()
            # asyncio's own text says where to, and not what happened.
            raise OSError(error.errno, os.strerror(error.errno) if error.errno else str(error)) from None
        except BaseException:
            connection.close()
            raise
        return connection


class ThroughProxy:
    """A connection that a SOCKS5 proxy (RFC 1928, 1929) or an HTTP proxy (CONNECT, RFC 9110) makes for us.

    The proxy resolves the server's name.
    """

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._host = host
        self._port = port

    def __str__(self) -> str:
        return f"{self._host} port {self._port} through the {self._proxy}"

    async def open(self) -> socket.socket:
        """Ask the proxy; see `Way.open`."""
        proxy = self._proxy
        client = ProxyClient(
            ProxyType.SOCKS5 if proxy.kind == "socks5" else ProxyType.HTTP,
            proxy.host,
            proxy.port,
            proxy.username,
            proxy.password.get_secret_value() if proxy.password else None,
            rdns=True,
        )
        try:
            return await client.connect(self._host, self._port, timeout=_OPEN_CHANNEL)
        except ProxyConnectionError as error:
            number = error.errno or 0  # below 0 for a name that cannot be resolved
            reason = os.strerror(number) if number > 0 else str(error)
            raise OSError(f"the {proxy} cannot be reached: {reason}") from None
        except ProxyError as error:
            if error.error_code in _PROXY_WANTS_LOG_IN or "authentication" in str(error).lower():
                raise CannotConnect(
                    "the proxy does not let this build in",
                    resource=str(proxy),
                    why=str(error),
                    hint="Mend ssh_proxy_username and ssh_proxy_password, or ssh_proxy_type.",
                ) from None
            raise OSError(f"the {proxy} answered: {error}") from None


class ThroughBastion:
    """A channel of a connection to a bastion (direct-tcpip, RFC 4254, section 7.2)."""

    def __init__(self, bastion: Bastion, transport: paramiko.Transport, host: str, port: int) -> None:
        self._bastion = bastion
        self._transport = transport
        self._host = host
        self._port = port

    def __str__(self) -> str:
        return f"{self._host} port {self._port} through the {self._bastion}"

    async def open(self) -> paramiko.Channel:
        """Ask the bastion; see `Way.open`."""
        try:
            return await open_channel(
                lambda: self._transport.open_channel(
                    "direct-tcpip", (self._host, self._port), ("127.0.0.1", 0), timeout=_OPEN_CHANNEL
                )
            )
        except paramiko.ChannelException as error:
            if error.code == 1:
                raise CannotConnect(
                    "the bastion forwards no connections to the guest",
                    resource=str(self._bastion),
                    why=error.text,
                    hint="Its SSH server must allow TCP forwarding (AllowTcpForwarding, PermitOpen) for this user.",
                ) from None
            raise OSError(f"the bastion cannot reach it: {error.text}") from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not self._transport.is_active():
                raise ConnectionLost(
                    "the connection to the bastion broke", resource=str(self._bastion), why=str(error)
                ) from None
            raise OSError(f"the bastion opens no connection: {error}") from None


async def open_channel(work: Callable[[], paramiko.Channel]) -> paramiko.Channel:
    """Open a channel of a connection. A cancellation leaves the connection, and what goes on over it, as it is."""
    given_up = False

    def open_or_close() -> paramiko.Channel:
        channel = work()
        if given_up:
            channel.close()
        return channel

    def give_up() -> None:
        nonlocal given_up
        given_up = True

    return await in_thread(open_or_close, give_up)


def connect_agent() -> socket.socket:
    """A line to this host's agent.

    Raises:
        KeyError: none is named by SSH_AUTH_SOCK.
        OSError: it does not answer.
    """
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        agent.settimeout(_AGENT)
        agent.connect(os.environ["SSH_AUTH_SOCK"])
    except BaseException:
        agent.close()
        raise
    return agent


def hang_up(line: Line) -> None:
    """Close a line, whatever state it is in."""
    with suppress(Exception):
        line.close()
