"""The frame around a build: whatever way it ends, what it made and did not finish goes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from prefect.exceptions import Pause

from blocks.errors import BakeryError, WaitExpired
from blocks.settings import settings
from tasks import begun
from tasks.cancelled import until_cancelled, until_signal_lost
from tasks.kept import forget_key, kept_notice
from tasks.masking import mask_error
from tasks.reaper_line import ReaperLine
from tasks.run import Run
from tasks.step import in_time
from tasks.teardown import Ground, find, tear_down
from tasks.unseen import tear_down_run


class BuildCancelled(BakeryError):
    """Someone cancelled the flow run."""


_begun: dict[UUID, Run] = {}
_clean: set[tuple[UUID, int]] = set()
_leaving = False


def attended_here(run: UUID) -> bool:
    """Whether this very process has built that run."""
    return run in _begun


def attempt_here(run: UUID) -> int | None:
    """Which attempt of that run this very process has built."""
    return _begun[run].attempt if run in _begun else None


def unfinished_here() -> list[Run]:
    """The runs that this very process builds or has not cleaned up after."""
    return [run for run in _begun.values() if not cleaned_up_here(run.id, run.attempt)]


def leave_to_reaper() -> None:
    """From now on this process cleans up no more: someone wants it to end."""
    global _leaving
    _leaving = True


def left_to_reaper(run: UUID) -> bool:
    """Whether this very process has left it to the reaper to clean up after that run."""
    return _leaving and attended_here(run)


def cleaned_up_here(run: UUID, attempt: int) -> bool:
    """Whether this very process has already torn down that attempt to the end."""
    return (run, attempt) in _clean


@asynccontextmanager
async def attended(run: Run, ground: Ground, line: ReaperLine, build_timeout: float) -> AsyncIterator[None]:
    """Around the steps of a build.

    Within it, a cancellation of the flow run and the build's deadline end the build; after it, in whatever way it
    ended, the run's temporary resources are removed: unless it failed, and is to be kept or waits for an answer. Where
    the removal is cut short, the reaper goes on with it.

    Raises:
        BuildCancelled: the flow run was cancelled, and this process had to see that by itself.
        WaitExpired: the build's deadline came.
        LeftBehind: the build succeeded, and something of it could not be removed.
    """
    failure: BaseException | None = None
    _begun[run.id] = run
    try:
        if run.attempt > 1:
            await _remove_earlier_attempts(run, ground)
        async with _ended_when_cancelled(run), _ended_in_time(run, build_timeout):
            yield
    except BaseException as error:
        failure = error
        raise
    finally:
        failed = isinstance(failure, Exception) and not isinstance(failure, BuildCancelled)
        keeps = (failed and run.keeps) or isinstance(failure, Pause)
        if not (keeps and await _keep(run, ground, line)):
            cut = not isinstance(failure, Exception | Pause | None)
            await _clean_up(run, ground, line, failed=failure is not None, cut=cut)


async def _remove_earlier_attempts(run: Run, ground: Ground) -> None:
    """Remove what earlier attempts left and were not asked to keep."""
    earlier = await tear_down(
        ground,
        lambda mark: mark.run == run.id and mark.attempt < run.attempt and not run.lineage.adopts(mark),
        logger=run.logger,
    )
    earlier.raise_for_left()


async def _keep(run: Run, ground: Ground, line: ReaperLine) -> bool:
    """Keep what a failed build made, and say what that is; False when there is nothing to keep."""
    try:
        if run.lineage.resumes:
            # Whoever resumes it again names the run that began it; what this one added would be lost.
            await tear_down(ground, lambda mark: mark.run == run.id, logger=run.logger)
        found = await find(ground, run.lineage.owns)
    except BakeryError as error:
        run.logger.warning("What the build made is kept; it cannot be listed: %s", error)
    else:
        if not found:
            return False
        run.kept = kept_notice(run, found)
        run.logger.warning("%s", run.kept)
    line.done()
    _clean.add((run.id, run.attempt))
    return True


async def _clean_up(run: Run, ground: Ground, line: ReaperLine, *, failed: bool, cut: bool) -> None:
    line.cleaning_up()
    if left_to_reaper(run.id):
        line.take_over(cut=True)
        return
    try:
        settle = settings().settle_time if run.pending else 0
        await in_time(
            run,
            "tear down",
            tear_down_run(ground, run.lineage, run.lineage.owns, logger=run.logger, known=run.known, settle=settle),
        )
    except Exception as error:
        mask_error(error)
        line.take_over(cut=cut)
        run.logger.error("Teardown is not through; the reaper goes on with it. %s", error)
        if not failed:
            raise
    except BaseException:
        line.take_over(cut=True)
        raise
    else:
        line.done(cut=cut)
        _clean.add((run.id, run.attempt))
        forget_key(run.lineage.origin)
        begun.end(run.id, run.attempt)


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
    is_supervised = "PREFECT__FLOW_RUN_ID" in os.environ
    building = asyncio.current_task()
    assert building is not None
    cancelled = False

    async def watch() -> None:
        nonlocal cancelled
        if is_supervised:
            await until_signal_lost()
            run.logger.info("The flow run is told to end: ending the build")
        else:
            await until_cancelled(run)
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
