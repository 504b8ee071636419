from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tasks import cancelled
from tasks.cancelled import until_cancelled
from tasks.run import Run
from tests.conftest import Tune
from tests.tasks.support import mark_of
from tests.tasks.test_progress import Nobody


class Server:
    """Knows which runs somebody cancelled."""

    def __init__(self) -> None:
        self.cancelled: set[UUID] = set()
        self.asked: list[set[UUID]] = []
        self.away = False

    @asynccontextmanager
    async def client(self, httpx_settings: Any) -> AsyncIterator[Server]:
        assert httpx_settings is not None, "a client that some flow closes at its end"
        yield self

    async def read_flow_runs(self, flow_run_filter: Any) -> list[Any]:
        self.asked.append(set(flow_run_filter.id.any_))
        if self.away:
            self.away = False
            raise ConnectionError
        return [SimpleNamespace(id=run) for run in flow_run_filter.id.any_ if run in self.cancelled]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tune: Tune) -> Server:
    tune(cancel_poll=0.01)
    made = Server()
    monkeypatch.setattr(cancelled, "get_client", made.client)
    return made


def run_of() -> Run:
    return Run(mark_of(run=uuid4()), datetime.now(UTC), logging.getLogger("test"), Nobody())


async def test_one_look_sees_all_runs_and_ends_those_that_were_cancelled(server: Server) -> None:
    one, other = run_of(), run_of()
    waits = {run.id: asyncio.create_task(until_cancelled(run)) for run in (one, other)}
    async with asyncio.timeout(20):
        while {one.id, other.id} not in server.asked:
            await asyncio.sleep(0)
        server.away = True
        server.cancelled.add(one.id)
        await waits[one.id]
        assert not waits[other.id].done()
        while server.asked[-1] != {other.id}:
            await asyncio.sleep(0)
    waits[other.id].cancel()
    await asyncio.wait(waits.values())
    assert not cancelled._watches
    assert len(asyncio.all_tasks()) == 1
