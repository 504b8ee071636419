"""Which runs count as builds that may still bring something new."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.fleet.members import going_on
from tasks.current_image import GoodImage

BASE = UUID(int=1)
NAMES = {BASE: "base"}
BUILDING = frozenset({"base"})


def run(event: str | None = None, deployment: UUID | None = BASE) -> FlowRun:
    parameters = {"event": {"event": event}} if event else {}
    return FlowRun(flow_id=uuid4(), deployment_id=deployment, parameters=parameters)


@pytest.mark.parametrize(
    ("event", "building"),
    [(None, BUILDING), ("image.source.updated", BUILDING), ("build-all", BUILDING), ("image.built", frozenset())],
)
def test_a_run_that_no_parent_started_may_build(event: str | None, building: frozenset[str]) -> None:
    assert going_on(NAMES, [run(event)], {}) == (BUILDING, building)


def test_a_run_that_has_made_the_current_image_is_through() -> None:
    # Its event is sent before it ends: what that starts must not wait for it.
    done = run("image.source.updated")
    image = GoodImage(
        definition="base", builder="b", id="1", name="n", place="p", digest="d", built_at=datetime.now(UTC), run=done.id
    )
    assert going_on(NAMES, [done], {"base": image}) == (frozenset(), frozenset())
    assert going_on(NAMES, [done, run()], {"base": image}) == (BUILDING, BUILDING)


def test_runs_of_others_are_nobodys() -> None:
    assert going_on(NAMES, [run(deployment=uuid4()), run(deployment=None)], {}) == (frozenset(), frozenset())
