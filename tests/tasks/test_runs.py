"""What is known of other runs, and what of them is remembered from one look to the next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import AwaitingRetry, Cancelling, Failed, Paused, Pending, Running

from tasks.runs import call_crashed, looking_since, warn_of_rare_heartbeats
from tests.conftest import Tune
from tests.tasks.support import LOG

RUN = UUID(int=1)
NOW = datetime.now(UTC)
MEMORY: dict[str, Any] = {"looked": NOW.isoformat(), "since": (NOW - timedelta(hours=1)).isoformat()}


@pytest.mark.parametrize("memory", [{}, {"looked": NOW.isoformat(), "silent": {}}])
def test_looks_begin_with_the_first(memory: dict[str, Any]) -> None:
    assert looking_since(memory, NOW) == NOW


@pytest.mark.parametrize("minutes", [1, 10, 12])
def test_they_go_on_while_there_is_one_in_a_window_or_little_more(minutes: int) -> None:
    assert looking_since(MEMORY, NOW + timedelta(minutes=minutes)) == NOW - timedelta(hours=1)


def test_they_begin_anew_after_a_gap() -> None:
    away = NOW + timedelta(minutes=13)
    assert looking_since(MEMORY, away) == away


def test_heartbeats_that_are_too_rare_for_the_window_are_told(tune: Tune, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_rare_heartbeats(LOG)  # Prefect's every 180 s, our 600 s
    assert caplog.text == ""
    tune(heartbeat_window=300)
    warn_of_rare_heartbeats(LOG)
    assert "every 180 s, and reclaim on another host takes a build for dead that sends none for 300 s" in caplog.text


class OneRun:
    """A server that knows of one run, in its second attempt."""

    def __init__(self, state: State[Any]) -> None:
        self.state = state

    async def read_flow_run(self, run: UUID) -> FlowRun:
        return FlowRun(id=run, flow_id=UUID(int=2), state=self.state, run_count=2)

    async def set_flow_run_state(self, run: UUID, state: State[Any], force: bool) -> None:
        self.state = state


@pytest.mark.parametrize(
    ("state", "attempt", "ends"),
    [
        (Running(), 2, "Crashed"),
        (Running(), None, "Crashed"),
        (Running(), 1, "Running"),  # its process is gone, and the second attempt goes on
        (Cancelling(), 2, "Cancelled"),
        (Paused(), 2, "Crashed"),
        (AwaitingRetry(), 2, "AwaitingRetry"),  # someone has just asked for another attempt
        (Failed(), 2, "Failed"),
        (Pending(), None, "Crashed"),  # its worker died before it began
        (Pending(), 2, "Pending"),  # the next attempt is about to begin
    ],
)
async def test_only_the_state_of_the_attempt_that_died_is_ended(
    state: State[Any], attempt: int | None, ends: str
) -> None:
    server = OneRun(state)
    await call_crashed(cast("PrefectClient", server), RUN, "it was killed", attempt=attempt)
    assert server.state.name == ends
