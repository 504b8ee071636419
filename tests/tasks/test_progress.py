from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tasks import progress
from tasks.progress import Progress
from tasks.run import Run
from tests.tasks.support import mark_of


class Nobody:
    def creating(self, resource: str) -> None: ...

    def created(self, resource: str) -> None: ...


def run_of(server: str = "a-server") -> Run:
    return Run(mark_of(server=server), datetime.now(UTC), logging.getLogger("test"), Nobody())


@asynccontextmanager
async def progress_shown(run: Run, usual_steps: int) -> AsyncIterator[None]:
    """As a build does it."""
    shown = Progress(run, usual_steps)
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
        raise
    finally:
        await shown.end(failure)


class Server:
    """What Prefect is told of a progress artifact."""

    def __init__(self) -> None:
        self.shown: list[tuple[float, str]] = []
        self.told = asyncio.Event()

    async def create(self, percent: float, description: str) -> UUID:
        self.shown.append((percent, description))
        self.told.set()
        return uuid4()

    async def update(self, artifact: UUID, percent: float, description: str) -> None:
        self.shown.append((percent, description))
        self.told.set()

    async def has(self, right: Callable[[float, str], bool]) -> None:
        async with asyncio.timeout(20):
            while not any(right(*each) for each in self.shown):
                self.told.clear()
                await self.told.wait()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(progress, "acreate_progress_artifact", made.create)
    monkeypatch.setattr(progress, "aupdate_progress_artifact", made.update)
    monkeypatch.setattr(progress, "_FIRST", 0)
    monkeypatch.setattr(progress, "_PAUSE", 0)
    return made


async def test_each_step_is_named_when_it_begins_and_the_bar_grows(server: Server) -> None:
    run = run_of()
    async with progress_shown(run, 4):
        run.begin("launch")
        await server.has(lambda percent, said: (percent, said) == (0, "launch"))
        run.record("launch", asyncio.get_running_loop().time(), "done")
        run.begin("connect")
        await server.has(lambda percent, said: (percent, said) == (25, "connect"))
    assert server.shown[-1] == (100, "Done")


async def test_more_steps_than_usual_are_not_more_than_all(server: Server) -> None:
    run = run_of()
    async with progress_shown(run, 1):
        for name in ("one", "two", "three"):
            run.begin(name)
            run.record(name, 0, "done")
        await server.has(lambda _, said: said == "three")
        assert max(percent for percent, _ in server.shown) < 100


async def test_a_failed_build_says_where(server: Server) -> None:
    run = run_of()

    async def build() -> None:
        async with progress_shown(run, 4):
            run.begin("connect")
            await server.has(lambda *_: True)
            run.begin("provision: shell 1")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await build()
    assert server.shown[-1] == (0, "Failed: provision: shell 1")


async def test_a_build_that_is_quicker_than_the_first_look_has_none(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_FIRST", 1000)
    run = run_of()
    async with progress_shown(run, 4):
        run.begin("launch")
    assert server.shown == []


async def test_where_nobody_looks_nothing_is_told(server: Server) -> None:
    async with progress_shown(run_of("local"), 4):
        await asyncio.sleep(0)
    assert server.shown == []


async def test_a_build_does_not_wait_for_it_or_fail_with_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    async def fail(*_: Any, **__: Any) -> None:
        raise OSError("no server")

    monkeypatch.setattr(progress, "_LAST_WORD", 0.01)
    for answer in (hang, fail):
        for call in ("aupdate_progress_artifact", "acreate_progress_artifact"):
            monkeypatch.setattr(progress, call, answer)
            run = run_of()
            async with asyncio.timeout(20), progress_shown(run, 4):
                run.begin("launch")
                await asyncio.sleep(0)
