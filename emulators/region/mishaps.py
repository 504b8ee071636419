"""What faults do to a request before the region has looked at it, whatever the cloud."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from emulators.region.connections import Dropped
from emulators.region.faults import Fault, Struck


async def before_answer(struck: Struck, request: Request, refuse: Callable[[Fault], Response]) -> Response | None:
    """Delay, drop or refuse a request whose body has been read.

    Args:
        struck: the faults that strike it.
        request: the request.
        refuse: the reply of a `status` fault, in the cloud's own form.

    Returns:
        The reply that takes the place of an answer, or None when the region is to answer.
    """
    if latency := struck.by("latency"):
        await asyncio.sleep(latency.number("seconds", 1))
    if hang := struck.by("hang"):
        try:
            # The body has been read: what comes next is the client's going away.
            await asyncio.wait_for(request.receive(), hang.number("seconds", 3600))
        except TimeoutError:
            pass
        else:
            return Dropped()
    if struck.by("drop_before"):
        return Dropped()
    if fault := struck.by("status"):
        reply = refuse(fault)
        if retry_after := fault.text("retry_after"):
            reply.headers["retry-after"] = retry_after
        return reply
    return None
