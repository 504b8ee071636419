"""The frame around a build: whatever way it ends, what it made and did not finish goes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from blocks.errors import BakeryError, WaitExpired
from blocks.settings import settings
from tasks.masking import mask_error
from tasks.reaper_line import ReaperLine
from tasks.run import Run
from tasks.step import in_time
from tasks.teardown import Ground, tear_down


class BuildCancelled(BakeryError):
    """Someone cancelled the flow run."""


_begun: set[UUID] = set()
_clean: set[tuple[UUID, int]] = set()


def attended_here(run: UUID) -> bool:
    """Whether this very process has built that run."""
    return run in _begun


def cleaned_up_here(run: UUID, attempt: int) -> bool:
    """Whether this very process has already torn down that attempt to the end."""
    return (run, attempt) in _clean


@asynccontextmanager
async def attended(run: Run, ground: Ground, line: ReaperLine, build_timeout: float) -> AsyncIterator[None]:
    """Around the steps of a build.

    Within it, a cancellation of the flow run and the build's deadline end the build; after it, in whatever way it
    ended, the run's temporary resources are removed. Where that is cut short, the reaper goes on with it.

    Raises:
        BuildCancelled: the flow run was cancelled, and this process had to see that by itself.
        WaitExpired: the build's deadline came.
        LeftBehind: the build succeeded, and something of it could not be removed.
    """
    failed = True
    _begun.add(run.id)
    try:
        if run.attempt > 1:
            earlier = await tear_down(
                ground, lambda mark: mark.run == run.id and mark.attempt < run.attempt, logger=run.logger
            )
            earlier.raise_for_left()
        async with _ended_when_cancelled(run), _ended_in_time(run, build_timeout):
            yield
        failed = False
    finally:
        await _clean_up(run, ground, line, failed=failed)


async def _clean_up(run: Run, ground: Ground, line: ReaperLine, *, failed: bool) -> None:
    try:
        removal = await in_time(
            run,
            "tear down",
            tear_down(ground, run.owns, logger=run.logger, settle=settings().settle_time if run.pending else 0),
        )
        removal.raise_for_left()
    except Exception as error:
        mask_error(error)
        line.take_over()
        run.logger.error("Teardown is not through; the reaper goes on with it. %s", error)
        if not failed:
            raise
    except BaseException:
        line.take_over()
        raise
    else:
        line.done()
        _clean.add((run.id, run.attempt))


@asynccontextmanager
async def _ended_in_time(run: Run, timeout: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise WaitExpired(
            f"the build was not through after {timeout:g} s",
            resource=f"flow run {run.id}",
            hint="Give it a longer build_timeout, or find out which step takes so long.",
        ) from None


@asynccontextmanager
async def _ended_when_cancelled(run: Run) -> AsyncIterator[None]:
    # A worker or a served flow ends its child itself; nobody does that for a flow that was called directly.
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        yield
        return
    building = asyncio.current_task()
    assert building is not None
    cancelled = False

    async def watch() -> None:
        nonlocal cancelled
        await _cancelled_on_server(run)
        cancelled = True
        building.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not cancelled:
            raise
        building.uncancel()
        raise BuildCancelled("the flow run was cancelled", resource=f"flow run {run.id}") from None
    finally:
        watcher.cancel()
        await asyncio.wait([watcher])


async def _cancelled_on_server(run: Run) -> None:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        while True:
            await asyncio.sleep(settings().cancel_poll)
            try:
                state = (await client.read_flow_run(run.id)).state
            except Exception as error:
                run.logger.debug("The flow run's state cannot be read: %s", error)
                continue
            if state is not None and (state.is_cancelling() or state.is_cancelled()):
                run.logger.info("The flow run was cancelled: ending the build")
                return
