"""Waiting for a cloud: quick looks first, then slower ones, until a deadline or a state from which nothing follows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from blocks.errors import CloudError, WaitExpired
from blocks.settings import settings

T = TypeVar("T")

_SHARE = 0.05
_LOOKS = 2
_STRIDE = 2

_last: dict[tuple[str, str], float] = {}
"""After how many seconds the last wait of this process was not over yet, by the kind of resource and what was waited
for. When it was seen to be over says less: a busy host looks late, would look as late the next time, and so on."""


async def poll(
    look: Callable[[], Awaitable[T]],
    done: Callable[[T], bool],
    *,
    what: str,
    resource: str,
    timeout: float,
    describe: Callable[[T], str] = str,
    longest: float | None = None,
) -> T:
    """Look until `done` says so, and return what was seen then.

    A pause is a twentieth of the time waited so far, so that what is waited for is seen that much late at most; but no
    shorter than `poll_first`, nor than twice a look took, which may have had to wait for its turn, and no longer than
    `longest`. Before the time at which this process last saw that the same wait was not over yet, a pause is twice as
    long as all that has been waited so far: most looks in that time would see nothing. None is longer than
    `poll_longest` (settings).

    A look that fails with a fault that passes is only a look that saw nothing. `done` raises `EndedBadly` for states
    from which what is waited for never comes.

    Args:
        look: One look.
        done: Whether what was seen is what is waited for.
        what: What is waited for, for the error: "running".
        resource: What is looked at; its first word is of what kind it is.
        timeout: Seconds.
        describe: How the error tells what was seen last.
        longest: Longest pause in seconds where nothing is known of the last wait; by default `poll_longest`.

    Raises:
        WaitExpired: the deadline came first. It says what was seen last.
    """
    clock = asyncio.get_running_loop().time
    longest = settings().poll_longest if longest is None else longest
    kind = (resource.partition(" ")[0], what)
    usual = _last.get(kind, 0.0)
    unseen: float | None = None
    started = clock()
    end = started + timeout
    last = "nothing"
    while True:
        looked = clock()
        try:
            seen = await look()
        except CloudError as error:
            if not error.passes:
                raise
            last = str(error)
        else:
            if done(seen):
                if unseen is not None:
                    _last[kind] = unseen
                return seen
            unseen, last = looked - started, describe(seen)
        now = clock()
        waited = now - started
        pause = min(max(settings().poll_first, _SHARE * waited, _LOOKS * (now - looked)), longest)
        pause = min(max(pause, min(_STRIDE * waited, usual - waited)), settings().poll_longest)
        if now + pause > end:
            raise WaitExpired(
                f"not {what} after {timeout:g} s",
                resource=resource,
                why=f"last seen: {last}",
                hint="Give it more time, or look at the resource on the cloud for the reason.",
            )
        await asyncio.sleep(pause)
