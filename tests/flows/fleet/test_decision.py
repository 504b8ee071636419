"""Whether a definition is built: the conditions, and waves through families of every shape."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.fleet.decision import Decision, Present, decide
from flows.fleet.events import BUILD_ALL, BUILT, SOURCE_UPDATED, Cause
from flows.fleet.family import Family
from flows.fleet.fleet import Fleet
from tasks.current_image import GoodImage

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NEWS = Cause(event=SOURCE_UPDATED)
PARENT_BUILT = Cause(event=BUILT, definition="base")


def image(name: str, number: int = 1, **made: Any) -> GoodImage:
    built_at = made.pop("built_at", NOW - timedelta(days=2))
    facts = {"source_id": "source-1", "digest": "same", **made}
    return GoodImage(
        definition=name,
        builder="b",
        id=f"{name}-{number}",
        name=name,
        place="p",
        built_at=built_at,
        run=uuid4(),
        **facts,
    )


def family(source: str | None = None, *after: str, **more: Any) -> Family:
    return Family.model_validate({"source": {"definition": source} if source else None, "rebuild_after": after, **more})


def decided(
    relations: Family,
    cause: Cause | None = None,
    *,
    had: GoodImage | None = None,
    source: str = "source-1",
    digest: str = "same",
    fleet: Fleet | None = None,
) -> Decision:
    fleet = fleet or Fleet({"web": relations})
    return decide(relations, cause, Present("web", had, source, digest, NOW), fleet)


ALL: dict[str, Any] = {"rebuild": ["source", "definition", "age"], "max_age": "1d"}


def test_without_conditions_every_run_builds() -> None:
    assert decided(family(), had=image("web")).builds


def test_an_event_that_brings_nothing_new_builds_nothing() -> None:
    decision = decided(family(), NEWS, had=image("web"))
    assert not decision.builds
    assert decision.state == "Unchanged"
    assert "web-1" in decision.why


@pytest.mark.parametrize(
    ("conditions", "changes", "reason"),
    [
        (["source"], {"source": "source-2"}, "source-2"),
        (["definition"], {"digest": "other"}, "definition"),
        (["age"], {}, "2 days old"),
    ],
)
def test_each_condition_says_so_by_itself_and_keeps_silent_about_the_others(
    conditions: list[str], changes: dict[str, Any], reason: str
) -> None:
    max_age: dict[str, Any] = {"max_age": "1d"} if "age" in conditions else {}
    decision = decided(family(rebuild=conditions, **max_age), had=image("web"), **changes)
    assert decision.builds
    assert reason in decision.why
    others: dict[str, Any] = {"source": "source-2", "digest": "other"}
    if "age" in conditions:
        max_age = {"max_age": "3d"}
    assert not decided(
        family(rebuild=conditions, **max_age),
        had=image("web"),
        **{each: others[each] for each in others if each not in changes},
    ).builds


def test_what_has_no_image_is_built_whatever_the_conditions() -> None:
    assert decided(family(rebuild=["age"], max_age="30d")).builds
    assert decided(family(), NEWS).builds


def test_all_that_changed_is_told() -> None:
    decision = decided(family(**ALL), had=image("web"), source="source-2", digest="other")
    assert all(said in decision.why for said in ("source-2", "definition", "days old"))


def test_an_event_is_no_reason_where_rebuild_does_not_name_the_source() -> None:
    relations = family(rebuild=["definition"])
    assert not decided(relations, NEWS, had=image("web"), source="source-2").builds
    assert decided(relations, NEWS, had=image("web"), digest="other").builds


def test_a_parents_new_image_is_a_new_source() -> None:
    relations = family("base", rebuild=["source"])
    fleet = Fleet({"web": relations, "base": family()}, {"base": image("base", 2)})
    had = image("web", parents={"base": "base-1"}, source_id="base-1")
    assert "base-2" in decided(relations, had=had, fleet=fleet).why
    assert decided(relations, PARENT_BUILT, had=had, fleet=fleet).builds
    had = image("web", parents={"base": "base-2"}, source_id="base-2")
    assert not decided(relations, PARENT_BUILT, had=had, fleet=fleet).builds


class TestDiamond:
    """base → left, right → web."""

    families: ClassVar = {
        "base": family(),
        "left": family("base"),
        "right": family("base"),
        "web": family("left", "right"),
    }

    def fleet(self, base: int, left: tuple[int, int], right: tuple[int, int], **more: Any) -> Fleet:
        """Each with the number of its image, and of the image of base that it was made from."""
        images = {
            "base": image("base", base),
            "left": image("left", left[0], parents={"base": f"base-{left[1]}"}),
            "right": image("right", right[0], parents={"base": f"base-{right[1]}"}),
        }
        return Fleet(self.families, images, **more)

    def decision(self, fleet: Fleet, had: tuple[int, int] = (1, 1)) -> Decision:
        web = image("web", parents={"left": f"left-{had[0]}", "right": f"right-{had[1]}"})
        return decided(self.families["web"], PARENT_BUILT, had=web, fleet=fleet)

    def test_the_first_parent_to_be_done_does_not_begin_it(self) -> None:
        decision = self.decision(self.fleet(2, (2, 2), (1, 1)))
        assert (decision.builds, decision.state) == (False, "Waiting for right")

    def test_nor_while_the_other_is_being_built(self) -> None:
        decision = self.decision(self.fleet(2, (2, 2), (1, 1), building=frozenset({"right"})))
        assert decision.state == "Waiting for right"

    def test_the_last_one_does(self) -> None:
        assert self.decision(self.fleet(2, (2, 2), (2, 2))).builds

    def test_and_the_event_that_comes_after_it_finds_nothing_new(self) -> None:
        assert self.decision(self.fleet(2, (2, 2), (2, 2)), had=(2, 2)).state == "Unchanged"

    def test_a_parent_that_failed_blocks_it_and_is_named(self) -> None:
        decision = self.decision(self.fleet(2, (2, 2), (1, 1), failed=frozenset({"right"})))
        assert (decision.builds, decision.state, decision.blocked_by) == (False, "Blocked by right", "right")

    def test_one_that_failed_before_and_is_tried_again_does_not(self) -> None:
        fleet = self.fleet(2, (2, 2), (1, 1), failed=frozenset({"right"}), active=frozenset({"right"}))
        assert self.decision(fleet).state == "Waiting for right"

    def test_a_failure_that_has_nothing_to_do_with_the_wave_does_not(self) -> None:
        assert self.decision(self.fleet(2, (2, 2), (2, 2), failed=frozenset({"base", "right"}))).builds

    def test_a_parent_with_another_needless_run_is_not_waited_for(self) -> None:
        assert self.decision(self.fleet(2, (2, 2), (2, 2), active=frozenset({"right"}))).builds

    def test_an_ancestor_that_is_being_built_is_waited_for(self) -> None:
        decision = self.decision(self.fleet(2, (2, 2), (2, 2), building=frozenset({"base"})))
        assert decision.state == "Waiting for base"

    def test_a_person_or_a_schedule_does_not_wait(self) -> None:
        fleet = self.fleet(2, (2, 2), (1, 1), failed=frozenset({"right"}))
        assert decide(self.families["web"], None, Present("web", image("web"), None, "same", NOW), fleet).builds

    def test_age_does_not_wait_for_a_parent_that_failed(self) -> None:
        relations = family("left", "right", **ALL)
        fleet = self.fleet(2, (2, 2), (1, 1), failed=frozenset({"right"}))
        had = image("web", parents={"left": "left-1", "right": "right-1"})
        assert decided(relations, had=had, fleet=fleet).builds

    def test_a_failure_stops_all_that_comes_after_it(self) -> None:
        assert Fleet(self.families).descendants("base") == ["left", "right", "web"]
        assert Fleet(self.families).descendants("right") == ["web"]


def test_a_parent_that_does_not_follow_is_not_waited_for() -> None:
    families = {
        "base": family(),
        "lazy": family("base", rebuild=["definition"]),
        "web": family("base", "lazy"),
    }
    images = {"base": image("base", 2), "lazy": image("lazy", parents={"base": "base-1"})}
    had = image("web", parents={"base": "base-1", "lazy": "lazy-1"})
    assert decided(families["web"], PARENT_BUILT, had=had, fleet=Fleet(families, images)).builds
    assert Fleet(families).descendants("base") == ["web"]


def test_what_was_built_in_a_wave_is_not_built_again_in_it() -> None:
    wave = Cause(event=BUILD_ALL, since=NOW - timedelta(minutes=5))
    assert decided(family(), wave, had=image("web")).builds
    recent = image("web", built_at=NOW - timedelta(minutes=1))
    assert decided(family(), wave, had=recent).state == "Unchanged"
    assert decided(family(), wave, had=recent, source="source-2").builds


def test_only_what_changed_is_built_when_that_is_asked_for() -> None:
    wave = Cause(event=BUILD_ALL, since=NOW, only_changed=True)
    assert not decided(family(), wave, had=image("web")).builds
    assert decided(family(), wave, had=image("web"), digest="other").builds
    assert decided(family(), wave, had=image("web"), source="source-2").builds


names = st.integers(0, 6)


@given(st.data())
def test_one_wave_builds_each_definition_once_in_whatever_order_events_come(data: st.DataObject) -> None:
    """Families with no circle, at random; runs start and end in any order; each start is an event of a parent."""
    count = data.draw(st.integers(1, 6))
    families = {
        str(n): family(
            None, *{str(data.draw(st.integers(0, n - 1))) for _ in range(data.draw(st.integers(0, 3)))} if n else ()
        )
        for n in range(count)
    }
    images = {
        name: image(name, parents={p: f"{p}-1" for p in relations.parents}) for name, relations in families.items()
    }
    images["0"] = image("0", 2)
    wave = {"0", *Fleet(families).descendants("0")}
    built: list[str] = []
    queue = [child for child in families if "0" in families[child].parents]
    running: list[str] = []
    while queue or running:
        starts = bool(queue) and (not running or data.draw(st.booleans()))
        if starts:
            name = queue.pop(data.draw(st.integers(0, len(queue) - 1)))
            if name in running:  # its deployment runs one at a time, the others queue
                queue.append(name)
                starts = not running
                if not starts:
                    continue
            present = Present(name, images[name], None, "same", NOW)
            fleet = Fleet(families, images, active=frozenset({*running, *queue} - {name}))
            if decide(families[name], PARENT_BUILT, present, fleet).builds:
                running.append(name)
        else:
            name = running.pop(data.draw(st.integers(0, len(running) - 1)))
            built.append(name)
            images[name] = image(name, 2, parents={p: images[p].id for p in families[name].parents})
            queue += [child for child in families if name in families[child].parents]
    assert sorted(["0", *built]) == sorted(wave)
    assert not any(Fleet(families, images).is_behind(name) for name in families)
