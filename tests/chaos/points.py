"""A point: one build, and what is done to it, where. The list of them is data."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel


class Point(BaseModel):
    """One scenario with its parameters."""

    id: str
    """What `--only` takes: builder/family/…"""
    lane: str
    """The kind of lane that it runs in."""
    family: str
    scenario: str
    """Which of `scenarios`."""
    parameters: dict[str, Any] = {}


class Outcome(BaseModel):
    """What came of a point."""

    point: str
    family: str
    ended: str
    """How its build ended: succeeded, failed, killed, or `not reached` when what was to be done to it was not."""
    what: str = ""
    """What was done."""
    seconds_until_clean: float | None = None
    """From the end of the build, or from the start of what cleans up after it, until nothing was left."""
    leaks: list[str] = []
    touched: list[str] = []
    """What belongs to others and is gone or changed."""
    secrets: list[str] = []
    wrong: list[str] = []
    """What else is not as promised: a failure without a clear error, a live build that did not survive."""
    seconds: float = 0
    log: str = ""
    """Where the logs of a point that failed are."""

    @property
    def complaints(self) -> list[str]:
        """All that did not hold."""
        return [
            *(f"leaked: {each}" for each in self.leaks),
            *(f"not ours, and touched: {each}" for each in self.touched),
            *(f"secret seen: {each}" for each in self.secrets),
            *(f"wrong: {each}" for each in self.wrong),
        ]

    @property
    def is_good(self) -> bool:
        """Whether everything held."""
        return not self.complaints


class Trace(BaseModel):
    """What a build asks its region for, as seen by a clean one."""

    labels: list[str]
    """Requests as the proxy calls them, in order."""
    operations: list[str]
    """As the region calls them."""

    def moments(self) -> Iterator[tuple[str, int]]:
        """Every request by its label and how often it was seen; of what is only a poll the first two and the last."""
        seen: dict[str, int] = {}
        for name in self.labels:
            seen[name] = seen.get(name, 0) + 1
        for name, count in seen.items():
            few = range(1, count + 1) if count <= _POLLS else [1, 2, count // 2]
            for nth in few:
                yield name, nth


_POLLS = 6
"""A request that is seen more often in a build is a poll."""


class Draw:
    """A lane's points in random order, each family with its share of the time."""

    def __init__(self, points: Iterable[Point], shares: Mapping[str, float], seed: int) -> None:
        self._shares = shares
        self._waiting: dict[str, list[Point]] = {}
        self._lane = ""
        for point in points:
            self._lane = point.lane
            self._waiting.setdefault(point.family, []).append(point)
        self._spent = dict.fromkeys(self._waiting, 0.0)
        for family, waiting in self._waiting.items():
            random.Random(f"{seed} {family}").shuffle(waiting)

    def next(self) -> Point | None:
        """The next point: of the family that is furthest behind its share."""
        families = [family for family, waiting in self._waiting.items() if waiting]
        if not families:
            return None
        family = min(families, key=lambda family: (self._spent[family] / self._shares.get(family, 1.0), family))
        return self._waiting[family].pop()

    def spent(self, point: Point, seconds: float) -> None:
        """Say how long a point took."""
        self._spent[point.family] += seconds

    def left(self) -> dict[str, int]:
        """How many points of each family have not been drawn, by lane and family."""
        return {f"{self._lane}/{family}": len(waiting) for family, waiting in self._waiting.items()}
