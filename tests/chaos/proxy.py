"""A proxy between a build and its region: it sees every request, and can do something at an exact one of them."""

from __future__ import annotations

import http.client
import re
import select
import socket
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_UPSTREAM = 120


class When(StrEnum):
    """When something happens at a request."""

    BEFORE = "before"
    """It has come from the build and is not passed on."""
    AFTER = "after"
    """The region has carried it out, and its reply does not reach the build."""
    LATE = "late"
    """It is held until the build gives it up, and passed on then."""


@dataclass
class Trap:
    """What happens at the n-th request of a kind; once."""

    label: str
    nth: int
    when: When
    act: Callable[[], None]
    sprung: threading.Event = field(default_factory=threading.Event)
    failed: str = ""
    """Why what was to happen did not."""


class Proxy:
    """Passes requests on, and lists them by their labels (see `label`)."""

    def __init__(self, region: str) -> None:
        parts = urlsplit(region)
        self._region = (str(parts.hostname), parts.port or 80)
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        self._trap: Trap | None = None
        self.labels: list[str] = []
        """The requests so far, in the order in which they came."""
        proxy = self

        class Handler(_Handler):
            of = proxy

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def set(self, trap: Trap | None) -> None:
        """Count from now on, and spring a trap when its request comes."""
        with self._lock:
            self._seen.clear()
            self.labels = []
            self._trap = trap

    def why_not(self, trap: Trap) -> str:
        """Why a trap was not sprung."""
        if trap.failed:
            return f"what was to be done failed: {trap.failed}"
        return f"{trap.label} was seen {self.labels.count(trap.label)} times, and not {trap.nth}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()

    def connection(self) -> http.client.HTTPConnection:
        """A connection to the region."""
        return http.client.HTTPConnection(*self._region, timeout=_UPSTREAM)

    def note(self, name: str) -> Trap | None:
        """List a request, and return the trap that it springs."""
        with self._lock:
            self.labels.append(name)
            self._seen[name] += 1
            trap = self._trap
            if trap is None or trap.label != name or self._seen[name] != trap.nth:
                return None
            self._trap = None
            return trap


def label(method: str, path: str) -> str:
    """What a request is called: OUTSCALE's action, or method and path, with `id` for ids and names of ours."""
    words = urlsplit(path).path.strip("/").split("/")
    if words[0] != "v1":
        return words[-1]
    named = ("id" if re.fullmatch(r"[0-9a-f-]{36}|chaos-.*", word) else word for word in words[1:])
    return "-".join([method.lower(), *named])


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections break here all the time, on purpose."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    of: Proxy
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        trap = self.of.note(label(self.command, self.path))
        if trap is None:
            reply = self._ask(body)
        elif trap.when is When.AFTER:
            reply = self._ask(body)
            self._spring(trap)
            reply = None
        elif trap.when is When.LATE:
            self._wait_for_the_client_to_leave()
            self._ask(body, alone=True)
            self._spring(trap)
            reply = None
        else:
            self._spring(trap)
            reply = None
        if reply is None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.connection.sendall(reply)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _pass  # noqa: N815

    @staticmethod
    def _spring(trap: Trap) -> None:
        try:
            trap.act()
        except Exception:
            trap.failed = traceback.format_exc()
        else:
            trap.sprung.set()

    def _ask(self, body: bytes, *, alone: bool = False) -> bytes | None:
        """What the region answers, or None where it or the client has cut the connection."""
        # A new connection each time: one that the region has closed meanwhile would look like a fault.
        upstream = self.of.connection()
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            upstream.request(self.command, self.path, body or None, headers)
            if not alone and self._client_left_first(upstream.sock):
                return None
            reply = upstream.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            upstream.close()
        lines = [f"HTTP/1.1 {reply.status} {reply.reason}"]
        lines += [
            f"{name}: {value}"
            for name, value in reply.getheaders()
            if name.lower() not in ("transfer-encoding", "connection", "content-length")
        ]
        if reply.status != 204:
            lines.append(f"content-length: {len(content)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + content

    def _client_left_first(self, upstream: socket.socket) -> bool:
        ready, _, _ = select.select([upstream, self.connection], [], [], _UPSTREAM)
        return upstream not in ready and self._has_left()

    def _has_left(self) -> bool:
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _wait_for_the_client_to_leave(self) -> None:
        select.select([self.connection], [], [], _UPSTREAM)

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
