"""How far a build is, while it runs: a progress artifact of its flow run, which names the step it is at."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import UUID

from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

from tasks.mark import LOCAL_SERVER
from tasks.masking import masked
from tasks.run import Run

_ALMOST = 99.0
"""What a build is at that has more steps than most."""
_FIRST = 5
"""Seconds until the first look at what the build is at."""
_PAUSE = 15
"""Seconds between two looks at what the build is at: Prefect's pages hardly look more often."""
_LAST_WORD = 5
"""Seconds that it may take to say how it ended."""


class Progress:
    """Shows how far a build is, from now until it is ended. No step waits for that, and nothing fails for want of it.

    Args:
        run: The run, which says what it is at.
        usual_steps: How many steps such a build usually has.
    """

    def __init__(self, run: Run, usual_steps: int) -> None:
        self._run = run
        self._usual = max(usual_steps, 1)
        self._artifact: UUID | None = None
        # With a server of the build's own, nobody looks.
        self._follower = None if run.mark.server == LOCAL_SERVER else asyncio.create_task(self._follow())

    async def end(self, failure: BaseException | None) -> None:
        """Show that the build is done, or at what it failed; nothing of one that is suspended.

        What was over before it could be shown needs no bar.
        """
        self.cut()
        if self._follower is None or not (failure is None or isinstance(failure, Exception)):
            return
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_LAST_WORD):
                await asyncio.wait([self._follower])
                if self._artifact is None:
                    return
                if failure is None:
                    await self._show(100.0, "Done")
                else:
                    await self._show(self._percent, f"Failed: {self._run.at}")

    def cut(self) -> None:
        """Show nothing any more."""
        if self._follower is not None:
            self._follower.cancel()

    @property
    def _percent(self) -> float:
        return min(100.0 * len(self._run.steps) / self._usual, _ALMOST)

    async def _follow(self) -> None:
        """Show each step as it begins. Steps that are quicker than a person are passed over."""
        try:
            await asyncio.sleep(_FIRST)
            while True:
                await self._run.stirred.wait()
                self._run.stirred.clear()
                await self._show(self._percent, self._run.at)
                await asyncio.sleep(_PAUSE)
        except Exception as error:
            self._run.logger.debug("Progress cannot be shown: %s", error)

    async def _show(self, percent: float, said: str) -> None:
        if self._artifact is None:
            self._artifact = await acreate_progress_artifact(percent, description=masked(said))
        else:
            await aupdate_progress_artifact(self._artifact, percent, description=masked(said))
