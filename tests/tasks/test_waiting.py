from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from blocks.errors import (
    CloudError,
    EndedBadly,
    Forbidden,
    ReplyLost,
    ServiceFault,
    Throttled,
    Unreachable,
    WaitExpired,
)
from tasks import waiting
from tasks.waiting import poll
from tests.conftest import Tune


@pytest.fixture(autouse=True)
def no_wait_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_last", {})


def seeing(*sights: str | CloudError) -> Callable[[], Awaitable[str]]:
    """Looks that see one thing after the other, and the last one for ever."""
    left = list(sights)

    async def look() -> str:
        sight = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(sight, CloudError):
            raise sight
        return sight

    return look


async def running(look: Callable[[], Awaitable[str]], timeout: float = 10) -> str:
    def done(seen: str) -> bool:
        if seen == "failed":
            raise EndedBadly("it failed")
        return seen == "running"

    return await asyncio.wait_for(
        poll(look, done, what="running", resource="instance i", timeout=timeout, describe=lambda seen: f"<{seen}>"), 10
    )


async def test_it_returns_what_was_waited_for(tune: Tune) -> None:
    assert await running(seeing("creating", "starting", "running")) == "running"


async def test_the_first_look_needs_no_pause(tune: Tune) -> None:
    tune(poll_first=60)
    assert await running(seeing("running")) == "running"


async def test_a_deadline_tells_what_was_seen_last(tune: Tune) -> None:
    with pytest.raises(WaitExpired) as caught:
        await running(seeing("creating", "starting"), timeout=0.2)
    assert str(caught.value).startswith("instance i: not running after 0.2 s: last seen: <starting>\n")


@pytest.mark.parametrize("fault", [ServiceFault("x"), Throttled("x"), Unreachable("x"), ReplyLost("x")])
async def test_a_fault_that_passes_is_a_look_that_saw_nothing(tune: Tune, fault: CloudError) -> None:
    assert await running(seeing(fault, "starting", fault, "running")) == "running"
    with pytest.raises(WaitExpired) as caught:
        await running(seeing(ServiceFault("the rack burns", status=503)), timeout=0.2)
    assert "last seen: the rack burns (HTTP 503)" in str(caught.value)


async def test_any_other_fault_ends_it(tune: Tune) -> None:
    with pytest.raises(Forbidden):
        await running(seeing("starting", Forbidden("no")), timeout=1000)


async def test_a_state_from_which_nothing_follows_ends_it_at_once(tune: Tune) -> None:
    with pytest.raises(EndedBadly):
        await running(seeing("starting", "failed"), timeout=1000)


class Clock:
    """Time that passes only in pauses and in looks that take some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        monkeypatch.setattr("tasks.waiting.asyncio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def late(self, wait: float, look_takes: float = 0.0) -> float:
        """How late it is seen that a wait is over."""

        end = self.now + wait

        async def look() -> bool:
            self.now += look_takes
            return self.now >= end

        await poll(look, bool, what="through", resource="a wait", timeout=1000)
        return self.now - end


@pytest.mark.parametrize("wait", [0.5, 2, 2.5, 4, 7, 20, 39])
async def test_the_end_of_a_wait_is_seen_a_twentieth_of_it_late_at_most(
    tune: Tune, monkeypatch: pytest.MonkeyPatch, wait: float
) -> None:
    tune(poll_first=0.1, poll_longest=2)
    clock = Clock(monkeypatch)
    assert await clock.late(wait) <= max(0.1, wait / 20) + 0.001
    assert clock.pauses[0] == pytest.approx(0.1)
    assert len(clock.pauses) < 90


async def test_pauses_grow_up_to_the_longest(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(poll_first=0.1, poll_longest=2)
    clock = Clock(monkeypatch)
    await clock.late(300)
    assert clock.pauses == sorted(clock.pauses)
    assert clock.pauses[-1] == 2


async def test_looks_that_take_long_are_taken_less_often(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(poll_first=0.1, poll_longest=2)
    clock = Clock(monkeypatch)
    await clock.late(10, look_takes=0.5)
    assert all(pause >= 1 for pause in clock.pauses)


async def test_a_wait_can_be_cancelled(tune: Tune) -> None:
    tune(poll_first=60, poll_longest=60)
    looked = asyncio.Event()

    async def look() -> str:
        looked.set()
        return "starting"

    waiting = asyncio.create_task(running(look, timeout=1000))
    await looked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, 5)


async def test_a_wait_like_the_last_one_needs_few_looks(tune: Tune) -> None:
    tune(poll_first=0.01, poll_longest=60)
    clock = asyncio.get_running_loop().time

    async def looks_for(seconds: float) -> int:
        end, looks = clock() + seconds, 0

        async def look() -> bool:
            nonlocal looks
            looks += 1
            return clock() >= end

        await poll(look, bool, what="a wait of this test", resource="r", timeout=10)
        return looks

    first = await looks_for(1)
    assert await looks_for(1) < first / 2
    assert await looks_for(0.2) < 10


async def test_one_long_wait_does_not_make_the_next_ones_late(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(poll_first=0.1, poll_longest=10)
    clock = Clock(monkeypatch)
    for wait in (4, 8, 4):
        await clock.late(wait)
    assert await clock.late(4) <= 0.2


async def test_looks_that_come_late_do_not_make_the_next_waits_late(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(poll_first=0.1, poll_longest=10)
    clock = Clock(monkeypatch)
    await clock.late(4)
    for _ in range(3):
        await clock.late(4, look_takes=0.5)
    assert await clock.late(4) <= 0.2
