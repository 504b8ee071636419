"""Waiting for room on a rack that has none: HTTP 507, at an instance's create or start."""

from __future__ import annotations

import asyncio

from blocks.errors import CapacityExhausted
from blocks.settings import settings
from tasks.run import Logger

_LONGEST = 15


class Room:
    """A build's patience: how long, in all, it goes on asking for room that the rack or the quota has not.

    Args:
        limit: Seconds from the first refusal on. With 0 a refusal is final.
        logger: Told what is waited for.
    """

    def __init__(self, limit: float, logger: Logger) -> None:
        self._limit = limit
        self._logger = logger
        self._end: float | None = None
        # Short waits first: most shortages are other builds that are about to end.
        self._pause = settings().poll_longest

    async def wait_after(self, error: CapacityExhausted) -> None:
        """Wait until it is time to ask again.

        Raises:
            CapacityExhausted: it is too late for that: the very error.
        """
        now = asyncio.get_running_loop().time()
        if self._end is None:
            self._end = now + self._limit
        if now + self._pause > self._end:
            if self._limit:
                error.hint = f"{error.hint} It was asked again for {self._limit:g} s (capacity_retry)."
            else:
                error.hint = f"{error.hint} Or set capacity_retry to wait until there is room."
            raise error
        self._logger.warning(
            "The rack has no room: %s. Asking again in %g s, for %.0f s more", error.why, self._pause, self._end - now
        )
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 1.5, settings().poll_longest * _LONGEST)


def is_about_addresses(error: CapacityExhausted) -> bool:
    """Whether it is external addresses that are short: another pool may have some."""
    return "external ip" in error.why.lower()
