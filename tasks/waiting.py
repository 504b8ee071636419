"""Waiting for a cloud: quick looks first, then slower ones, until a deadline or a state from which nothing follows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from blocks.errors import CloudError, WaitExpired
from blocks.settings import settings

T = TypeVar("T")


async def poll(
    look: Callable[[], Awaitable[T]],
    done: Callable[[T], bool],
    *,
    what: str,
    resource: str,
    timeout: float,
    describe: Callable[[T], str] = str,
) -> T:
    """Look until `done` says so, and return what was seen then.

    Pauses begin at `poll_first` and grow by half to `poll_longest` (settings). A look that fails with a fault that
    passes is only a look that saw nothing. `done` raises `EndedBadly` for states from which what is waited for never
    comes.

    Args:
        look: One look.
        done: Whether what was seen is what is waited for.
        what: What is waited for, for the error: "running".
        resource: What is looked at.
        timeout: Seconds.
        describe: How the error tells what was seen last.

    Raises:
        WaitExpired: the deadline came first. It says what was seen last.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + timeout
    pause = settings().poll_first
    last = "nothing"
    while True:
        try:
            seen = await look()
        except CloudError as error:
            if not error.passes:
                raise
            last = str(error)
        else:
            if done(seen):
                return seen
            last = describe(seen)
        if clock() + pause > end:
            raise WaitExpired(
                f"not {what} after {timeout:g} s",
                resource=resource,
                why=f"last seen: {last}",
                hint="Give it more time, or look at the resource on the cloud for the reason.",
            )
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, settings().poll_longest)
