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
from tasks.waiting import poll
from tests.conftest import Tune


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


async def test_pauses_grow_up_to_the_longest(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(poll_first=0.1, poll_longest=2)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def no_time(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr("tasks.waiting.asyncio.sleep", no_time)
    await running(seeing(*["starting"] * 12, "running"))
    assert pauses[:3] == pytest.approx([0.1, 0.15, 0.225])
    assert pauses == sorted(pauses)
    assert pauses[-1] == 2


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
