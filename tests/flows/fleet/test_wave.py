"""Building a fleet in order: parents first, what can be side by side, and nothing after a failure."""

from __future__ import annotations

import asyncio

import pytest

from blocks.errors import BakeryError
from flows.fleet.family import Family
from flows.fleet.wave import Outcome, build_in_order, chosen, report, table

FAMILIES = {
    "base": Family(),
    "left": Family(rebuild_after=["base"]),
    "right": Family(rebuild_after=["base"]),
    "web": Family(rebuild_after=["left", "right"]),
    "other": Family(),
}


class Kitchen:
    """Builds that end when they are told to, and may fail."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.begun: list[str] = []
        self.most_at_once = 0
        self._now = 0

    async def __call__(self, name: str) -> Outcome:
        self.begun.append(name)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        for _ in range(10):
            await asyncio.sleep(0)
        self._now -= 1
        return Outcome(name, "failed" if name in self.failing else "built", image=f"image-{name}")


async def outcomes(kitchen: Kitchen, *names: str, limit: int = 9) -> dict[str, str]:
    return {each.definition: each.outcome for each in await build_in_order(FAMILIES, names, kitchen, limit)}


async def test_parents_come_first_and_what_can_be_is_side_by_side() -> None:
    kitchen = Kitchen()
    assert set((await outcomes(kitchen, *FAMILIES)).values()) == {"built"}
    assert set(kitchen.begun[:2]) == {"base", "other"}
    assert set(kitchen.begun[2:4]) == {"left", "right"}
    assert kitchen.begun[4] == "web"
    assert kitchen.most_at_once == 2


async def test_no_more_at_once_than_the_limit() -> None:
    kitchen = Kitchen()
    await outcomes(kitchen, *FAMILIES, limit=1)
    assert (kitchen.most_at_once, len(kitchen.begun)) == (1, 5)


async def test_what_comes_after_a_failure_is_not_begun_and_says_why() -> None:
    kitchen = Kitchen("left")
    done = await build_in_order(FAMILIES, list(FAMILIES), kitchen, 9)
    assert "web" not in kitchen.begun
    by_name = {each.definition: each for each in done}
    assert by_name["web"].outcome == "not built"
    assert by_name["web"].why == "left failed, and it is made after that"
    assert by_name["right"].outcome == by_name["other"].outcome == "built"


async def test_a_failure_is_named_through_all_generations() -> None:
    done = await build_in_order(FAMILIES, list(FAMILIES), Kitchen("base"), 9)
    assert {each.why for each in done if each.outcome == "not built"} == {"base failed, and it is made after that"}


async def test_order_and_failures_hold_across_what_is_not_built_itself() -> None:
    kitchen = Kitchen()
    assert await outcomes(kitchen, "web", "base") == {"base": "built", "web": "built"}
    assert kitchen.begun == ["base", "web"]
    assert (await outcomes(Kitchen("base"), "web", "base"))["web"] == "not built"


def test_which_definitions_are_meant() -> None:
    tags = {"base": ["nightly"], "web": ["nightly", "edge"], "other": []}
    assert chosen(tags, None, None) == ["base", "other", "web"]
    assert chosen(tags, ["web", "other"], None) == ["other", "web"]
    assert chosen(tags, None, ["edge", "nightly"]) == ["base", "web"]
    with pytest.raises(BakeryError, match="nobody"):
        chosen(tags, ["nobody"], None)
    with pytest.raises(BakeryError, match="no definition to build"):
        chosen(tags, ["other"], ["edge"])


def test_the_table_has_all_and_the_report_lines_up() -> None:
    done = [Outcome("base", "built", "image-1", seconds=3.21, run="r"), Outcome("web", "failed", why="it broke")]
    assert table(done)[0] == {
        "definition": "base", "outcome": "built", "image": "image-1", "seconds": 3.2, "why": "", "run": "r",
    }  # fmt: skip
    assert report(done).splitlines() == [
        "base  built          3.2 s  image-1",
        "web   failed         0.0 s  it broke",
    ]
