"""A run: lanes side by side, each with its points, until the time is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tests.chaos.lanes import LaneFailed, LaneProcess
from tests.chaos.matrix import SHARES, all_points
from tests.chaos.points import Draw, Outcome, Point
from tests.chaos.report import Report, report

Tell = Callable[[Outcome], None]


class Run:
    """Points that are drawn and run.

    Args:
        lanes: Which kinds of lanes.
        guest: The tiny guest's directory.
        seed: Of the order in which points are drawn.
        minutes: How long points are drawn.
        only: Ids, or patterns of them; empty: all points.
        tell: Told about each outcome at once.
    """

    def __init__(
        self,
        lanes: Sequence[str],
        guest: Path,
        *,
        seed: int,
        minutes: float,
        only: Sequence[str] = (),
        tell: Tell = lambda _: None,
    ) -> None:
        self._lanes = [lane for lane in lanes if not only or any(_is_of(lane, wanted) for wanted in only)]
        self._guest = guest
        self._seed = seed
        self._minutes = minutes
        self._only = only
        self._tell = tell
        self._end = time.monotonic() + minutes * 60
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._outcomes: list[Outcome] = []
        self._left: dict[str, int] = {}

    def go(self) -> Report:
        """Run points on all lanes side by side. An interruption lets the points that run come to their end."""
        threads = [threading.Thread(target=self._serve, args=(kind,)) for kind in self._lanes]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            self._stop.set()
            for thread in threads:
                thread.join()
        return report(self._outcomes, self._left, seed=self._seed, minutes=self._minutes)

    def points(self) -> list[Point]:
        """All points; each lane says what a clean build asks for."""
        found = []
        for kind in self._lanes:
            with LaneProcess(kind, self._guest) as lane:
                found += self._chosen(lane)
        return found

    def _serve(self, kind: str) -> None:
        try:
            with LaneProcess(kind, self._guest) as lane:
                draw = Draw(self._chosen(lane), SHARES, self._seed)
                while time.monotonic() < self._end and not self._stop.is_set() and (point := draw.next()) is not None:
                    outcome = lane.run(point)
                    draw.spent(point, outcome.seconds)
                    self._note(outcome)
                    if outcome.leaks or outcome.touched or outcome.ended == "broken":
                        lane.renew()
                with self._lock:
                    self._left.update(draw.left())
        except LaneFailed as failed:
            wrong = f"lane {kind}: {failed}"
            self._note(Outcome(point=f"{kind}/lane", family="lane", ended="broken", wrong=[wrong]))

    def _note(self, outcome: Outcome) -> None:
        with self._lock:
            self._outcomes.append(outcome)
            self._tell(outcome)

    def _chosen(self, lane: LaneProcess) -> list[Point]:
        points = all_points(lane.kind, lane.trace(), self._seed)
        return [point for point in points if not self._only or any(_is(point, wanted) for wanted in self._only)]


def _is(point: Point, wanted: str) -> bool:
    return fnmatchcase(point.id, wanted)


def _is_of(lane: str, wanted: str) -> bool:
    return fnmatchcase(lane, wanted.partition("/")[0])
