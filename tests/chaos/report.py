"""What a run of chaos found: a table for people, JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pydantic import BaseModel

from tests.chaos.points import Outcome


class Family(BaseModel):
    """The points of one family on one kind of lane, counted."""

    family: str
    points: int = 0
    succeeded: int = 0
    failed: int = 0
    """Builds that ended by themselves with a clear error."""
    killed: int = 0
    not_reached: int = 0
    """Builds that ended before what was to be done to them was due."""
    leaks: int = 0
    touched: int = 0
    secrets: int = 0
    wrong: int = 0
    median: float | None = None
    """Seconds until clean."""
    worst: float | None = None
    not_done: int = 0
    """Points that the time did not suffice for."""


class Report(BaseModel):
    """A whole run."""

    seed: int
    minutes: float
    families: list[Family]
    total: Family
    outcomes: list[Outcome]

    @property
    def is_good(self) -> bool:
        """Whether there was something to see, and nothing amiss."""
        return bool(self.outcomes) and all(outcome.is_good for outcome in self.outcomes)

    def table(self) -> str:
        """For people."""
        header = (
            f"{'family':<24}{'points':>7}{'baked':>7}{'failed':>7}{'killed':>7}{'missed':>7}{'leaks':>7}"
            f"{'touched':>8}{'secrets':>8}{'wrong':>7}{'median s':>10}{'worst s':>9}{'not done':>10}"
        )
        lines = [header, "-" * len(header)]
        lines += [_row(family) for family in self.families]
        lines += ["-" * len(header), _row(self.total)]
        for outcome in self.outcomes:
            if not outcome.is_good:
                lines += ["", *_complaint(outcome, self.seed)]
        return "\n".join(lines)


def report(outcomes: Sequence[Outcome], left: dict[str, int], *, seed: int, minutes: float) -> Report:
    """Count."""
    names = sorted({_lane_and_family(outcome) for outcome in outcomes} | set(left))
    families = [
        _family(name, [each for each in outcomes if _lane_and_family(each) == name], left.get(name, 0))
        for name in names
    ]
    total = _family("all", outcomes, sum(left.values()))
    return Report(seed=seed, minutes=minutes, families=families, total=total, outcomes=list(outcomes))


def _lane_and_family(outcome: Outcome) -> str:
    return "/".join(outcome.point.split("/")[:2])


def _family(name: str, outcomes: Sequence[Outcome], left: int) -> Family:
    seconds = [each.seconds_until_clean for each in outcomes if each.seconds_until_clean is not None]

    def ended(how: str) -> int:
        return sum(each.ended == how for each in outcomes)

    return Family(
        family=name,
        points=len(outcomes),
        succeeded=ended("succeeded"),
        failed=ended("failed"),
        killed=ended("killed"),
        not_reached=ended("not reached"),
        leaks=sum(len(each.leaks) for each in outcomes),
        touched=sum(len(each.touched) for each in outcomes),
        secrets=sum(len(each.secrets) for each in outcomes),
        wrong=sum(len(each.wrong) for each in outcomes),
        median=statistics.median(seconds) if seconds else None,
        worst=max(seconds, default=None),
        not_done=left,
    )


def _row(family: Family) -> str:
    def shown(seconds: float | None) -> str:
        return "" if seconds is None else f"{seconds:.1f}"

    return (
        f"{family.family:<24}{family.points:>7}{family.succeeded:>7}{family.failed:>7}{family.killed:>7}"
        f"{family.not_reached:>7}{family.leaks:>7}{family.touched:>8}{family.secrets:>8}{family.wrong:>7}"
        f"{shown(family.median):>10}{shown(family.worst):>9}{family.not_done:>10}"
    )


def _complaint(outcome: Outcome, seed: int) -> list[str]:
    return [
        f"{outcome.point}: {outcome.what} (the build {outcome.ended})",
        *(f"  {complaint}" for complaint in outcome.complaints),
        f"  again: python -m tests.chaos --only {outcome.point} --seed {seed}",
        *([f"  log: {outcome.log}"] if outcome.log else []),
    ]
