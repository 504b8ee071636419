"""What watch does about one definition, whose parent's image is its source."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from flows import watch
from flows.fleet.family import Family
from flows.fleet.fleet import Fleet
from flows.fleet.members import Member
from flows.oxide_image.definition import OxideImageDefinition
from tasks.current_image import GoodImage

LOG = logging.getLogger("test")


def image(name: str, number: int, **facts: Any) -> GoodImage:
    return GoodImage(
        definition=name, builder="oxide-instance", id=f"{name}-{number}", name=name, place="p", digest="d",
        built_at=datetime(2026, 1, 1, tzinfo=UTC), run=uuid4(), **facts,
    )  # fmt: skip


FAMILY = Family.model_validate({"source": {"definition": "base"}})
WEB = Member("web", FAMILY, OxideImageDefinition, {}, UUID(int=1), frozenset())
OLD = image("web", 1, source_id="base-1", parents={"base": "base-1"})
BEHIND = Fleet({"base": Family(), "web": FAMILY}, {"base": image("base", 2), "web": OLD})
TOLD = {"source_id": "base-2", "source_name": "base", "parents": {"base": "base-2"}, "made_from": "base-1"}


class Reply:
    def __init__(self, events: list[Mapping[str, Any]]) -> None:
        self._events = events

    def json(self) -> dict[str, Any]:
        return {"events": self._events}


class Server:
    """Knows which event was sent last."""

    def __init__(self, ago: timedelta | None = None, **payload: Any) -> None:
        occurred = (datetime.now(UTC) - ago).isoformat() if ago is not None else ""
        self.events: list[Mapping[str, Any]] = []
        if ago is not None:
            self.events = [{"payload": {**TOLD, **payload}, "occurred": occurred}]

    async def request(self, method: str, path: str, json: Any) -> Reply:
        assert (method, path) == ("POST", "/events/filter")
        return Reply(self.events)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    sent: list[tuple[str, str, Any]] = []
    monkeypatch.setattr(watch, "tell", lambda event, name, payload, _log: sent.append((event, name, payload)))
    return sent


def ended(ago: timedelta) -> FlowRun:
    end = datetime.now(UTC) - ago
    return FlowRun(flow_id=uuid4(), start_time=end - timedelta(minutes=1), end_time=end)


async def look(fleet: Fleet, server: Server | None = None, last: FlowRun | None = None, member: Member = WEB) -> str:
    found = await watch._look(server or Server(), member, fleet, last, LOG)  # type: ignore[arg-type]
    return found.outcome


async def test_what_is_behind_is_told_with_what_it_was_made_from(sent: list[Any]) -> None:
    assert "asked for" in await look(BEHIND)
    assert sent == [("image.source.updated", "web", TOLD)]


@pytest.mark.parametrize(
    ("fleet", "outcome"),
    [
        (replace(BEHIND, active=frozenset({"web"})), "under way"),
        (replace(BEHIND, building=frozenset({"base"})), "base, which it is made after, is built first"),
        (replace(BEHIND, images={"base": image("base", 1), "web": OLD}), "up to date"),
        (replace(BEHIND, images={"base": image("base", 2)}), "never built"),
    ],
)
async def test_and_nothing_is_told_otherwise(fleet: Fleet, outcome: str, sent: list[Any]) -> None:
    assert outcome in await look(fleet)
    assert sent == []


async def test_a_definition_that_does_not_follow_its_source_is_left_alone(sent: list[Any]) -> None:
    family = FAMILY.model_copy(update={"rebuild": ["definition"]})
    fleet = replace(BEHIND, families={"base": Family(), "web": family})
    assert "rebuild does not say so" in await look(fleet, member=replace(WEB, family=family))
    assert sent == []


HOUR, TWO = timedelta(hours=1), timedelta(hours=2)


async def test_the_same_news_is_not_told_again_while_its_run_may_still_come(sent: list[Any]) -> None:
    assert "was told so" in await look(BEHIND, Server(timedelta(seconds=5)))
    assert sent == []


async def test_nor_when_its_build_failed(sent: list[Any]) -> None:
    failed = replace(BEHIND, failed=frozenset({"web"}))
    assert "was told so" in await look(failed, Server(TWO), ended(HOUR))
    assert sent == []


async def test_nor_when_the_build_failed_that_its_parents_own_event_had_started(sent: list[Any]) -> None:
    failed = replace(BEHIND, failed=frozenset({"web"}))
    assert "its build failed" in await look(failed, Server(), ended(HOUR))
    assert sent == []
    newer = image("base", 2).model_copy(update={"built_at": datetime.now(UTC)})
    assert "asked for" in await look(replace(failed, images={"base": newer, "web": OLD}), Server(), ended(HOUR))


@pytest.mark.parametrize(
    ("server", "last", "failed"),
    [
        (Server(TWO), None, False),
        (Server(TWO), ended(HOUR), False),
        (Server(HOUR), ended(TWO), True),
        (Server(TWO, source_id="base-0"), ended(HOUR), False),
    ],
    ids=["no run came of it", "its run waited", "what failed was before it", "other news"],
)
async def test_but_when_it_came_to_nothing_it_is(
    server: Server, last: FlowRun | None, failed: bool, sent: list[Any]
) -> None:
    assert "asked for" in await look(replace(BEHIND, failed=frozenset({"web"} if failed else ())), server, last)
    assert len(sent) == 1


async def test_a_source_that_cannot_be_looked_at_is_reported_with_the_others(sent: list[Any]) -> None:
    member = replace(WEB, family=Family(), build={"boot_disk_image_id": 7, "no_such_option": 1})
    found = await watch._look(Server(), member, BEHIND, None, LOG)  # type: ignore[arg-type]
    assert found.failed
    assert "make deploy" in found.outcome
