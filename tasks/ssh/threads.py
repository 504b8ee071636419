"""Blocking calls of a library, in threads that a cancellation can end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], cut: Callable[[], object]) -> T:
    """Do blocking work in a thread of its own.

    A thread cannot be cancelled, so `cut` has to make the work's blocking call return: by closing its channel, its
    connection. What the work raises after that is of no interest: an error raised while a cancellation is handled
    would take its place.

    Args:
        work: The blocking work.
        cut: Called in the event loop's thread when the wait is cancelled. It must not block.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def body() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:
            error = caught
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    # A daemon, since an executor's threads would hold up the interpreter's end.
    threading.Thread(target=contextvars.copy_context().run, args=(body,), daemon=True).start()
    try:
        return await future
    except asyncio.CancelledError:
        with suppress(Exception):
            cut()
        raise
