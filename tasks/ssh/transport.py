"""An SSH connection that remembers what paramiko's forgets: why nothing was agreed on, and how a channel ended."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any, ClassVar

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE

# What both sides name in their KEXINIT (RFC 4253, section 7.1), as paramiko calls it and as an error does.
_NAMED = {
    "kex_algo_list": ("kex", "key exchange method"),
    "server_key_algo_list": ("key_types", "host key type"),
    "server_encrypt_algo_list": ("ciphers", "cipher"),
    "server_mac_algo_list": ("digests", "MAC"),
}


def _closed_by_server(channel: paramiko.Channel, message: paramiko.Message) -> None:
    channel.closed_by_server = True  # type: ignore[attr-defined]
    channel._handle_close(message)  # type: ignore[attr-defined]


class Transport(paramiko.Transport):
    """One SSH connection over a socket, or over a channel of another one."""

    # The only certain sign that a channel did not just end with its connection: the other end said that it is closed.
    # By the time that anybody could ask whether the connection stands, it may have gone for another reason.
    _channel_handler_table: ClassVar[dict[int, Any]] = {
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
        MSG_CHANNEL_CLOSE: _closed_by_server,
    }

    def __init__(self, line: Any) -> None:
        super().__init__(line)
        self.offered_by_server: dict[str, list[str]] = {}

    def _really_parse_kex_init(self, message: paramiko.Message, ignore_first_byte: bool = False) -> dict[str, Any]:
        parsed: dict[str, Any] = super()._really_parse_kex_init(message, ignore_first_byte)  # type: ignore[misc]
        if not ignore_first_byte:  # otherwise they are our own
            self.offered_by_server = {name: list(parsed[name]) for name in _NAMED}
        return parsed

    def disagreement(self) -> str:
        """In what the two sides have nothing in common, with both lists; empty if they have, or nothing was said."""
        options = self.get_security_options()
        found = []
        for name, theirs in self.offered_by_server.items():
            attribute, what = _NAMED[name]
            ours = list(getattr(options, attribute))
            if not set(ours) & set(theirs):
                shown = [algorithm for algorithm in theirs if not algorithm.startswith(("ext-info-", "kex-strict-"))]
                found.append(f"no common {what}: the server has {', '.join(shown)}; this build has {', '.join(ours)}")
        return "; ".join(found)


def ended_by_server(channel: paramiko.Channel) -> bool:
    """Whether a channel that has ended was closed by the server, and did not just go with its connection."""
    return getattr(channel, "closed_by_server", False)


def keep_alive(transport: paramiko.Transport, interval: float) -> None:
    """Send a request every so many seconds that the server has to answer (RFC 4254, section 4), while both stand."""

    def ask() -> None:
        with suppress(Exception):
            while transport.is_active():
                transport.global_request("keepalive@openssh.com", wait=True)
                transport.join(interval)

    threading.Thread(target=ask, daemon=True, name="ssh keep-alive").start()


class Limited:
    """A line on which no single read or write may take longer than a limit.

    Args:
        line: A socket or a channel.
        limit: Seconds.
    """

    def __init__(self, line: Any, limit: float) -> None:
        self._line = line
        self._limit = limit
        self._heard = time.monotonic()
        self._waiting = 0.0
        """Since when nothing could be sent; 0: something can."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)

    def recv(self, size: int) -> bytes:
        """Receive, or raise TimeoutError: to the reader above that is no error until the limit is over."""
        try:
            data: bytes = self._line.recv(size)
        except TimeoutError:
            if time.monotonic() - self._heard > self._limit:
                raise ConnectionResetError(
                    0, f"nothing was received for {self._limit:g} s (ssh_read_write_timeout)"
                ) from None
            raise
        self._heard = time.monotonic()
        return data

    def send(self, data: bytes) -> int:
        """Send, or raise TimeoutError in the same way."""
        try:
            sent: int = self._line.send(data)
        except TimeoutError:
            self._waiting = self._waiting or time.monotonic()
            if time.monotonic() - self._waiting > self._limit:
                raise ConnectionResetError(
                    0, f"nothing could be sent for {self._limit:g} s (ssh_read_write_timeout)"
                ) from None
            raise
        self._waiting = 0.0
        return sent
