"""What the Prefect server knows of other flow runs: which have ended, and which fell silent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Crashed
from prefect.variables import Variable

from blocks.settings import settings
from tasks.dead import Life
from tasks.run import Logger

_MEMORY = "image_bakery_reclaim"
_AT_ONCE = 200
_GOING_ON = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


async def lives(client: PrefectClient, ids: Collection[UUID], now: datetime) -> dict[UUID, Life]:
    """What the server knows of these runs; those that it does not know are missing.

    A server that was away heard nobody, and proves nobody dead. So a run is silent once looks have gone on for a whole
    window and nothing was heard of it in that window and the one before. Since when they have gone on is kept in a
    Prefect Variable.
    """
    runs = [run for some in _batches(list(ids)) for run in await _read(client, some)]
    window = timedelta(seconds=settings().heartbeat_window)
    remembered = await Variable.aget(_MEMORY)
    since = looking_since(remembered if isinstance(remembered, dict) else {}, now)
    await Variable.aset(_MEMORY, {"looked": now.isoformat(), "since": since.isoformat()}, overwrite=True)
    dead: set[UUID] = set()
    if now - since >= window - _slack():
        long_ago = now - 2 * window
        going_on = {run.id for run in runs if not _has_ended(run) and not _waits(run) and _began(run) <= long_ago}
        dead = going_on - await _heard(client, going_on, long_ago, now)
    return {run.id: _life(run, dead) for run in runs}


def warn_of_rare_heartbeats(logger: Logger) -> None:
    """Say so when this host's flows send heartbeats too rarely for reclaim, which would take their builds for dead."""
    every, window = get_current_settings().flows.heartbeat_frequency, settings().heartbeat_window
    if every is None or 2 * every > window:
        logger.warning(
            "Prefect's heartbeats come %s, and reclaim on another host takes a build for dead that sends none for "
            "%g s: set PREFECT_FLOWS_HEARTBEAT_FREQUENCY to half of that, or IMAGE_BAKERY_HEARTBEAT_WINDOW to more",
            f"every {every} s" if every else "never",
            window,
        )


def looking_since(memory: Mapping[str, Any], now: datetime) -> datetime:
    """Since when looks have gone on without a gap."""
    if not {"looked", "since"} <= memory.keys():
        return now
    looked, since = (datetime.fromisoformat(memory[which]) for which in ("looked", "since"))
    return since if now - looked <= timedelta(seconds=settings().heartbeat_window) + _slack() else now


def _slack() -> timedelta:
    """How early or late a look that comes once in a window may be. What lives is heard twice in a window."""
    return timedelta(seconds=settings().heartbeat_window / 4)


async def going_on(client: PrefectClient, flows: Collection[str]) -> set[UUID]:
    """The runs of these flows that the server calls running, being cancelled, or about to begin.

    A worker that is killed leaves the last of these behind, pending for ever, and a place of their queue with them.
    """
    found: set[UUID] = set()
    while True:
        page = await client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(flows))),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_GOING_ON))),
            limit=_AT_ONCE,
            offset=len(found),
            sort=FlowRunSort.ID_DESC,
        )
        found |= {run.id for run in page}
        if len(page) < _AT_ONCE:
            return found


async def call_crashed(client: PrefectClient, run: UUID, why: str, *, attempt: int | None = None) -> None:
    """Tell the server that a run's process is gone, where it still calls the run running: it crashed, or is cancelled.

    Args:
        client: The server.
        run: The run.
        why: How that is known.
        attempt: Whose process it was. A later attempt's state is left as it is.
    """
    current = await client.read_flow_run(run)
    state = current.state
    is_going_on = state is not None and (state.is_running() or state.is_cancelling() or state.is_paused())
    # Pending after an attempt that died is the next one; pending for a whole window of silence, one that never began.
    if state is None or not (is_going_on or (attempt is None and state.is_pending())):
        return
    if attempt not in (None, current.run_count):
        return
    message = f"Its process is gone: {why}."
    ended: State[Any] = Cancelled(message=message) if state.is_cancelling() else Crashed(message=message)
    await client.set_flow_run_state(run, ended, force=True)


def _has_ended(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def _waits(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_paused()


def _began(run: FlowRun) -> datetime:
    """When it came into the state that it is in."""
    return run.state.timestamp if run.state is not None else run.created or datetime.now(UTC)


def _life(run: FlowRun, dead: Collection[UUID]) -> Life:
    if run.state is not None and run.state.is_cancelled():
        return Life.CANCELLED
    if _has_ended(run):
        return Life.FINAL
    if _waits(run):
        return Life.WAITING
    return Life.SILENT if run.id in dead else Life.ALIVE


async def _read(client: PrefectClient, ids: list[UUID]) -> list[FlowRun]:
    return await client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)), limit=_AT_ONCE)


async def _heard(client: PrefectClient, ids: Collection[UUID], since: datetime, until: datetime) -> set[UUID]:
    """The runs of which any event came in that time: a heartbeat, a change of state, a task."""
    heard: set[UUID] = set()
    occurred = {"since": since.astimezone(UTC).isoformat(), "until": until.astimezone(UTC).isoformat()}
    for run in ids:
        reply = await client.request(
            "POST",
            "/events/filter",
            json={
                "filter": {"occurred": occurred, "resource": {"id": [f"prefect.flow-run.{run}"]}},
                "limit": 1,
            },
        )
        if reply.json()["events"]:
            heard.add(run)
    return heard


def _batches(ids: list[UUID]) -> list[list[UUID]]:
    return [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]
