"""How we talk HTTP to a cloud: one connection pool a client, and tries again while a fault is one that passes."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TypeVar

import httpx

from blocks.errors import CloudError, ReplyLost, Throttled, Unreachable
from blocks.settings import settings

T = TypeVar("T")

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


@cache
def _usual_certificates() -> ssl.SSLContext:
    # Loading them takes tens of milliseconds, in which nothing else in this process runs: so it is done once.
    return httpx.create_ssl_context()


def new_connections(
    base_url: str, *, verify: bool | ssl.SSLContext, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """A client for one cloud endpoint. Connections are kept and used again; nothing is followed elsewhere."""
    return httpx.AsyncClient(
        base_url=base_url,
        verify=_usual_certificates() if verify is True else verify,
        transport=transport,
        timeout=httpx.Timeout(settings().api_timeout, connect=15),
        limits=httpx.Limits(max_connections=50, max_keepalive_connections=10, keepalive_expiry=30),
        follow_redirects=False,
    )


@asynccontextmanager
async def transport_errors(endpoint: str, resource: str) -> AsyncIterator[None]:
    """Turn httpx's transport errors into ours: never sent (`Unreachable`), or sent with no reply (`ReplyLost`)."""
    try:
        yield
    except _NEVER_SENT as error:
        raise Unreachable(
            f"cannot connect to {endpoint}",
            resource=resource,
            why=str(error) or type(error).__name__,
            hint="Check the host, the network between here and there, and its certificate.",
        ) from error
    except httpx.TransportError as error:
        raise ReplyLost(
            f"the connection to {endpoint} broke before a reply came",
            resource=resource,
            why=str(error) or type(error).__name__,
            hint="What was asked for may have been done all the same.",
        ) from error


def retry_after(reply: httpx.Response) -> float | None:
    """The pause in seconds that a reply's Retry-After asks for, as a number or a date (RFC 9110, section 10.2.3)."""
    value = reply.headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


async def until_it_passes(
    call: Callable[[], Awaitable[T]],
    *,
    repeatable: bool,
    retry_after: Callable[[], float | None],
    retry_time: float | None = None,
) -> T:
    """Call, and call again while the fault passes: pauses double from 0.2 s to 5 s, `retry_time` in all.

    Args:
        call: One try.
        repeatable: Whether trying again is harmless although the first try may have been carried out. Where it is
            not, only what was certainly not done is tried again: never sent, or throttled.
        retry_after: What the last reply asked for (RFC 9110, section 10.2.3), in seconds.
        retry_time: In seconds; None: the setting `api_retry_time`.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + (settings().api_retry_time if retry_time is None else retry_time)
    pause = 0.2
    while True:
        try:
            return await call()
        except CloudError as error:
            again = error.passes and (repeatable or isinstance(error, Unreachable | Throttled))
            asked = retry_after()
            wait = asked if asked is not None else pause * random.uniform(0.75, 1.25)  # noqa: S311
            if not again or clock() + wait > end:
                raise
            await asyncio.sleep(wait)
            pause = min(pause * 2, 5)
