"""A sample of chaos: a few points of either oven. `make chaos` runs them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.matrix import LANES
from tests.chaos.points import Draw, Outcome, Point, Trace
from tests.chaos.report import report
from tests.chaos.run import Run
from tests.end_to_end.conftest import needs_root

OXIDE = [
    "oxide/kill/post-instances-1/after",
    "oxide/reclaim/post-snapshots-1/after",
    "oxide/fault/instance_create/dropped-after",
]
OUTSCALE = [
    "outscale/kill/LinkVolume-1/after",
    "outscale/next-build/CreateSnapshot-1/before",
    "outscale/odd/dev-written",
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "only",
    [
        pytest.param(OXIDE, id="oxide"),
        # Its volumes have the device names that those of other tests want.
        pytest.param(OUTSCALE, id="outscale", marks=pytest.mark.xdist_group("prefect-outscale")),
    ],
)
def test_nothing_is_left_touched_or_seen(only: list[str], tiny: Path) -> None:
    needs_root("namespaces and block devices")
    done = Run(LANES, tiny.resolve(), seed=1, minutes=12, only=only).go()
    print(done.table())
    assert done.is_good, done.table()
    assert sorted(outcome.point for outcome in done.outcomes) == sorted(only)
    assert all(outcome.ended in ("killed", "succeeded", "failed") for outcome in done.outcomes), done.table()


def _outcome(**more: object) -> Outcome:
    return Outcome.model_validate({"point": "oxide/kill/x", "family": "kill", "ended": "killed", **more})


@pytest.mark.parametrize("what", ["leaks", "touched", "secrets", "wrong"])
def test_a_report_tells_what_is_amiss_and_how_to_see_it_again(what: str) -> None:
    done = report(
        [_outcome(seconds_until_clean=2), _outcome(**{what: ["volume vol-1"]})], {"oxide/kill": 3}, seed=7, minutes=1
    )
    assert not done.is_good
    assert "volume vol-1" in done.table()
    assert "python -m tests.chaos --only oxide/kill/x --seed 7" in done.table()
    assert (done.total.points, done.total.not_done, done.total.worst) == (2, 3, 2)
    assert getattr(done.total, what) == 1


def test_a_report_of_nothing_is_not_good() -> None:
    assert report([_outcome()], {}, seed=7, minutes=1).is_good
    assert not report([], {}, seed=7, minutes=1).is_good


def test_each_family_gets_its_share_in_an_order_that_the_seed_decides() -> None:
    def points() -> list[Point]:
        return [
            Point(id=f"oxide/{family}/{n}", lane="oxide", family=family, scenario="x")
            for family in ("often", "seldom")
            for n in range(30)
        ]

    def drawn(seed: int) -> list[str]:
        draw = Draw(points(), {"often": 3}, seed)
        found = []
        for _ in range(20):
            point = draw.next()
            assert point is not None
            draw.spent(point, 1)
            found.append(point.id)
        assert draw.left() == {"oxide/often": 15, "oxide/seldom": 25}
        return found

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_every_request_is_a_moment_and_a_poll_only_a_few() -> None:
    trace = Trace(labels=["view", "create", *["poll"] * 40, "view"], operations=[])
    assert list(trace.moments()) == [("view", 1), ("view", 2), ("create", 1), ("poll", 1), ("poll", 2), ("poll", 20)]
