"""What Ctrl-C does while a build runs at a terminal.

The first ends the build, which is then cleaned up after; the second says how far that is; the third leaves, after it
has said what is left. Whatever becomes of this process, the reaper goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

_LEAVE = 5.0
"""Seconds in which the process, told to leave, may still say on the Prefect server how the run ended."""


def run_until_interrupted(work: Coroutine[Any, Any, T], code: int) -> T:
    """Run what builds, in the main thread.

    Args:
        work: The build.
        code: With what the process exits when it is told to leave and cannot at once.

    Raises:
        KeyboardInterrupt: someone pressed Ctrl-C, and the build is cleaned up after or left to the reaper.
    """
    with asyncio.Runner() as runner:
        interrupts = _Interrupts(runner.get_loop(), code)
        former = signal.signal(signal.SIGINT, interrupts.pressed)
        try:
            return runner.run(interrupts.watch(work))
        except asyncio.CancelledError:
            if not interrupts.times:
                raise
            raise KeyboardInterrupt from None
        finally:
            signal.signal(signal.SIGINT, former)


class _Interrupts:
    def __init__(self, loop: asyncio.AbstractEventLoop, code: int) -> None:
        self.times = 0
        self._loop = loop
        self._code = code
        self._building: asyncio.Task[Any] | None = None

    async def watch(self, work: Coroutine[Any, Any, T]) -> T:
        self._building = asyncio.current_task()
        return await work

    def pressed(self, _number: int, _frame: FrameType | None) -> None:
        self.times += 1
        if self.times == 1:
            _say("Ending the build, and removing what it made. Ctrl-C again says how far that is.")
            self._end()
        elif self.times == 2:
            _say(f"{_how_far()}\n{_reaper()} Ctrl-C once more leaves at once.")
        elif self.times == 3:
            from tasks.attended import leave_to_reaper

            _say(f"Leaving. {_reaper()}\n{_left()}")
            leave_to_reaper()
            self._end()
            last = threading.Timer(_LEAVE, os._exit, [self._code])
            last.daemon = True
            last.start()

    def _end(self) -> None:
        if self._building is not None:
            self._loop.call_soon_threadsafe(self._building.cancel)


def _say(text: str) -> None:
    # Past the buffers: a signal may come in the middle of a print.
    os.write(sys.stderr.fileno(), f"\n{text}\n".encode())


def _how_far() -> str:
    from tasks.attended import unfinished_here
    from tasks.teardown import under_way

    lines = [f"Still under way: {', '.join(run.under_way) or 'the end of the run'}." for run in unfinished_here()]
    lines += [f"    being removed: {resource}" for removal in under_way() for resource in removal.to_remove]
    return "\n".join(lines) or "The build is cleaned up after; the run is being ended."


def _left() -> str:
    from tasks import begun
    from tasks.attended import unfinished_here
    from tasks.teardown import under_way
    from tasks.unseen import listing

    runs = unfinished_here()
    known = [f"    {resource}: {resource.remove_by_hand}" for each in under_way() for resource in each.to_remove]
    known = known or listing([each for run in runs for each in begun.of(run.lineage)])
    if not known:
        return "Nothing is known to be left."
    commands = [f"    {run.command} --clean-up {run.lineage.origin}" for run in runs]
    return "\n".join(["Left until then:", *known, "If it stays, remove all of it with:", *commands])


def _reaper() -> str:
    from tasks.reaper_line import reaper_here

    pid = reaper_here()
    if pid is None:
        return "Nothing was made yet."
    return f"The reaper (process {pid}) takes over when this process ends, and says in reaper.log what it did."
