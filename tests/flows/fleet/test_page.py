"""What the fleet's page says of each definition."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, StateType

from flows.fleet.family import Family
from flows.fleet.fleet import Fleet
from flows.fleet.members import Member
from flows.fleet_page import Row, Sight, page, row_of
from flows.oxide_image.definition import OxideImageDefinition
from tasks.current_image import GoodImage
from tasks.source_image import SourceImage

NOW = datetime.now(UTC)
SOURCE = SourceImage("s-1", "noble", NOW - timedelta(days=40))


def image_of(name: str, *, days: float = 1, source: str = "s-1", parents: Mapping[str, str] | None = None) -> GoodImage:
    return GoodImage(
        definition=name, builder="oxide-instance", id=f"i-{name}", name=f"{name}-1", place="images", source_id=source,
        parents=dict(parents or {}), digest="d", built_at=NOW - timedelta(days=days), run=uuid4(),
    )  # fmt: skip


def row(*images: GoodImage, family: Mapping[str, Any] | None = None, sight: Sight | None = None, **more: Any) -> Row:
    own = Family.model_validate(family or {})
    member = Member("web", own, OxideImageDefinition, {}, uuid4(), frozenset())
    fleet = Fleet({"web": own, "base": Family()}, {image.definition: image for image in images}, **more)
    return row_of(member, fleet, sight or Sight(SOURCE), None, None)


def test_an_image_of_the_source_that_is_there_is_current() -> None:
    found = row(image_of("web", days=3))
    assert found.is_fine
    assert (found.image, found.age, found.source_age) == ("web-1", "3 days", "40 days")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (row(), "it has no image"),
        (row(image_of("web", source="s-0")), "its source is another now"),
        (row(image_of("web"), sight=Sight(SOURCE, has_image=False)), "its image is gone"),
        (row(image_of("web"), sight=Sight(unseen="no credentials")), "no credentials"),
        (row(image_of("web", days=9), family={"rebuild": ["age"], "max_age": "7d"}), "it is older than max_age"),
        (
            row(
                image_of("base"),
                image_of("web", parents={"base": "i-before"}),
                family={"source": {"definition": "base"}},
                sight=Sight(SourceImage("i-base", "base-1", NOW)),
            ),
            "base has a new image",
        ),
    ],
)
def test_what_is_not_says_why(found: Row, why: str) -> None:
    assert not found.is_fine
    assert why in found.verdict


def test_a_child_of_the_image_that_its_parent_has_is_current() -> None:
    child = image_of("web", parents={"base": "i-base"}, source="i-base")
    assert row(image_of("base"), child, family={"source": {"definition": "base"}}).is_fine


@pytest.mark.parametrize(("more", "said"), [({"failed": {"web"}}, "failed"), ({"building": {"web"}}, "under way")])
def test_what_runs_do_is_said(more: dict[str, Any], said: str) -> None:
    assert said in row(image_of("web", source="s-0"), **more).verdict


def test_the_last_and_the_next_run_have_their_times() -> None:
    member = Member("web", Family(), OxideImageDefinition, {}, uuid4(), frozenset())
    now = datetime.now(UTC)
    last = FlowRun(
        flow_id=uuid4(), state_name="Completed", state_type=StateType.COMPLETED, end_time=now - timedelta(hours=5)
    )
    scheduled = {"flow_id": uuid4(), "state_name": "Scheduled", "state_type": StateType.SCHEDULED}
    coming = FlowRun.model_validate({**scheduled, "expected_start_time": now + timedelta(days=6, minutes=5)})
    found = row_of(member, Fleet({"web": Family()}), Sight(SOURCE), last, coming)
    assert "Completed 5 hours ago" in found.last
    assert "in 6 days" in found.next


def test_what_needs_somebody_comes_first() -> None:
    fine, stale = row(image_of("web")), row(image_of("web", source="s-0"))
    said = page([fine, stale], NOW)
    assert "1 of 2 definitions are current" in said
    assert said.index("✗ stale") < said.index("✓ current")
    assert len({line.count("|") for line in said.splitlines() if line.startswith("|")}) == 1


def test_an_empty_fleet_says_how_to_have_one() -> None:
    assert "make deploy" in page([], NOW)
