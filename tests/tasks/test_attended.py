from __future__ import annotations

import asyncio
import logging
import signal
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from prefect._internal import control_listener
from prefect.exceptions import TerminationSignal

from tasks.attended import attended
from tasks.reaper_line import ReaperLine
from tasks.run import Run
from tests.conftest import Tune
from tests.tasks.support import MemoryGround, mark_of, owned


class Line(ReaperLine):
    """What a build tells a reaper that is not there."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def _tell(self, word: str, **more: Any) -> None:
        self.told.append((word, more))


async def test_a_build_whose_supervisors_signal_asyncio_caught_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tune: Tune
) -> None:
    tune(cancel_poll=0.01)
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(uuid4()))
    line = Line()
    run = Run(mark_of(), datetime.now(UTC), logging.getLogger("test"), line)
    ground = MemoryGround([owned(run.mark)])
    caught = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: caught.set())

    def handler() -> None:
        raise TerminationSignal(signal.SIGTERM)

    async def build() -> None:
        async with attended(run, ground, line, build_timeout=60):
            monkeypatch.setattr(control_listener, "_intent", "cancel")
            loop.call_soon(handler)
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(20):
            await build()
    assert caught.is_set()
    assert ground.there == []
    assert line.told == [("cleaning up", {}), ("done", {"cut": True})]
