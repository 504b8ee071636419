"""Who may remove what, rule by rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tasks.dead import Life, judge
from tasks.mark import HostProcess, Mark
from tests.tasks.support import mark_of

HOUR = timedelta(hours=1)
OURS = HostProcess.current()
GONE = replace(OURS, start=OURS.start + 1)
ELSEWHERE = HostProcess("11111111-2222-3333-4444-555555555555", 1, 2, 3)
CONTAINER = replace(OURS, pid_namespace=OURS.pid_namespace + 1)


def removes(mark: Mark, *, later: timedelta = timedelta(), runs: dict[UUID, Life] | None = None) -> bool:
    return judge(mark, now=datetime.now(UTC) + later, server="ours", runs=runs or {}).remove


@pytest.mark.parametrize(
    ("host", "server", "life", "goes"),
    [
        (OURS, "ours", Life.FINAL, False),  # its process lives: Prefect may say what it likes
        (OURS, "local", None, False),
        (GONE, "ours", Life.ALIVE, True),
        (GONE, "local", None, True),
        (GONE, "theirs", None, True),
        (ELSEWHERE, "ours", Life.FINAL, True),
        (ELSEWHERE, "ours", Life.CANCELLED, True),
        (ELSEWHERE, "ours", Life.SILENT, True),
        (ELSEWHERE, "ours", Life.ALIVE, False),
        (ELSEWHERE, "ours", Life.WAITING, False),
        (ELSEWHERE, "ours", None, False),
        (ELSEWHERE, "theirs", Life.FINAL, False),  # another server's run of the same id is none of ours
        (ELSEWHERE, "local", None, False),
        (ELSEWHERE, "unknown", Life.FINAL, True),  # a client token alone: it is of the server that knows its run
        (ELSEWHERE, "unknown", Life.ALIVE, False),
        (ELSEWHERE, "unknown", None, False),
        (CONTAINER, "ours", Life.ALIVE, False),
        (CONTAINER, "local", None, False),
    ],
)
def test_who_is_dead(host: HostProcess, server: str, life: Life | None, goes: bool) -> None:
    mark = replace(mark_of(), host=host, server=server)
    assert removes(mark, runs={mark.run: life} if life else {}) is goes


@pytest.mark.parametrize(
    ("host", "server", "life", "goes"),
    [
        (OURS, "ours", Life.ALIVE, False),
        (ELSEWHERE, "ours", Life.ALIVE, True),
        (ELSEWHERE, "theirs", None, True),
        (ELSEWHERE, "local", None, True),
    ],
)
def test_after_until(host: HostProcess, server: str, life: Life | None, goes: bool) -> None:
    mark = replace(mark_of(), host=host, server=server)
    assert removes(mark, later=8 * HOUR, runs={mark.run: life} if life else {}) is goes


@pytest.mark.parametrize("host", [OURS, GONE, ELSEWHERE])
def test_what_is_kept_is_left_alone_by_everyone_until_then(host: HostProcess) -> None:
    mark = replace(mark_of(), host=host, server="ours", keep=datetime.now(UTC) + 10 * HOUR)
    ended = {mark.run: Life.FINAL}
    assert not removes(mark, runs=ended)
    assert not removes(mark, later=9 * HOUR, runs=ended)
    assert removes(mark, later=11 * HOUR, runs=ended)


def test_no_local_server_is_the_same_as_another() -> None:
    mark = replace(mark_of(), host=ELSEWHERE, server="local")
    assert not judge(mark, now=datetime.now(UTC), server="local", runs={mark.run: Life.FINAL}).remove


def test_it_says_why() -> None:
    assert "process" in judge(mark_of(), now=datetime.now(UTC), server="ours", runs={}).why
    elsewhere = replace(mark_of(), host=ELSEWHERE)
    assert "left alone until" in judge(elsewhere, now=datetime.now(UTC), server="ours", runs={}).why


@pytest.mark.parametrize(
    ("host", "server", "goes"),
    [(GONE, "ours", True), (ELSEWHERE, "ours", True), (OURS, "ours", False), (ELSEWHERE, "theirs", False)],
)
def test_what_a_suspended_run_keeps_goes_when_the_run_is_cancelled(host: HostProcess, server: str, goes: bool) -> None:
    mark = replace(mark_of(), host=host, server=server, keep=datetime.now(UTC) + HOUR)
    assert removes(mark, runs={mark.run: Life.CANCELLED}) is goes
    assert not removes(mark, runs={mark.run: Life.FINAL})
    assert not removes(mark, runs={mark.run: Life.WAITING})
