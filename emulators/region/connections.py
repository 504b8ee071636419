"""Cutting a client's connection without a reply, as a lost network does."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_TRANSPORT = "region.transport"


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 that lets the application get at its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the transport where the scope of every request will have it."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, _TRANSPORT: transport}


class Dropped(Response):
    """A reply that never comes: the connection closes without a byte."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Close the connection."""
        scope["state"][_TRANSPORT].abort()
        # The server would answer 500 for us if we returned before it has seen the connection go.
        while (await receive())["type"] != "http.disconnect":
            pass
