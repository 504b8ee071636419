"""Whether runs of this process were cancelled: on their server, with one look for all of them, or by a supervisor."""

from __future__ import annotations

import asyncio
from uuid import UUID

from prefect._internal.control_listener import get_intent
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_URL

from blocks.settings import settings
from tasks.run import Run

_ENDING = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLING, StateType.CANCELLED]))


async def until_cancelled(run: Run) -> None:
    """Wait until a flow run is cancelled. A server that does not answer has cancelled nothing."""
    place = (asyncio.get_running_loop(), PREFECT_API_URL.value())
    watch = _watches.setdefault(place, _Watch())
    try:
        await watch.wait_for(run)
        run.logger.info("The flow run was cancelled: ending the build")
    finally:
        if not watch.runs:
            _watches.pop(place, None)


async def until_signal_lost() -> None:
    """Wait until a build that a worker or a served flow supervises is told to end, and goes on all the same.

    Prefect ends it by a signal whose handler raises an exception. If that happens in a callback or a task of its own,
    asyncio catches it: the build would be killed half a minute later, with no time to clean up.
    """
    while get_intent() is None:  # noqa: ASYNC110 - nobody is woken when it comes
        await asyncio.sleep(settings().cancel_poll)
    # The signal follows at once; when it has its effect, this wait ends with the build.
    await asyncio.sleep(settings().cancel_poll)


class _Watch:
    """Looks after the runs of one event loop on one server, while there are any."""

    def __init__(self) -> None:
        self.runs: dict[UUID, asyncio.Event] = {}
        self._looking: asyncio.Task[None] | None = None

    async def wait_for(self, run: Run) -> None:
        cancelled = self.runs.setdefault(run.id, asyncio.Event())
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(run))
        try:
            await cancelled.wait()
        finally:
            del self.runs[run.id]
            if not self.runs:
                self._looking.cancel()
                self._looking = None

    async def _look(self, first: Run) -> None:
        # With a client of its own: a flow's is closed with that flow.
        async with get_client(httpx_settings={}) as client:
            while True:
                await asyncio.sleep(settings().cancel_poll)
                wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(self.runs)), state=_ENDING)
                try:
                    found = await client.read_flow_runs(flow_run_filter=wanted)
                except Exception as error:
                    first.logger.debug("The states of flow runs cannot be read: %s", error)
                    continue
                for run in found:
                    if run.id in self.runs:
                        self.runs[run.id].set()


_watches: dict[tuple[asyncio.AbstractEventLoop, str | None], _Watch] = {}
