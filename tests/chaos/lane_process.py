"""The process of a lane: `python -m tests.chaos.lane_process KIND GUEST`, in namespaces of its own."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path

from tests.chaos import kills, mishaps, odd_guests, servers, supervised  # noqa: F401 - they list their scenarios
from tests.chaos.lane import BUILD_LIMIT, CLEAN_WITHIN, Lane, lane_of, run_point
from tests.chaos.points import Outcome, Point, Trace
from tests.chaos.scenarios import SCENARIOS, SHELL


def main(kind: str, guest: Path) -> None:
    """Serve points until the end of the input; that also ends a point under way."""
    answers = sys.stdout
    # What parts of the world print is no answer.
    sys.stdout = sys.stderr
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    with suppress(KeyboardInterrupt), lane_of(kind, guest) as lane:
        while True:
            line = lines.get()
            answer = _trace(lane) if line.strip() == "trace" else _outcome(lane, Point.model_validate_json(line))
            answers.write(answer.model_dump_json() + "\n")
            answers.flush()


def _read(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os.kill(os.getpid(), signal.SIGINT)


def _trace(lane: Lane) -> Trace:
    """What a clean build asks for."""
    lane.proxy.set(None)
    before = lane.census()
    last = lane.control("GET", "/requests?since=0")["last"]
    build = lane.start_build(lane.definition(SHELL))
    code = build.wait(BUILD_LIMIT)
    assert code == 0, build.said
    asked = lane.control("GET", f"/requests?since={last}")["requests"]
    seconds, left = lane.clean_after(before, build.ended_at, CLEAN_WITHIN)
    assert not left, f"a clean build leaves {left} after {seconds:.0f} s"
    lane.remove_artifacts(before)
    return Trace(labels=lane.proxy.labels, operations=[request["operation"] for request in asked])


def _outcome(lane: Lane, point: Point) -> Outcome:
    try:
        return run_point(lane, point, SCENARIOS[point.scenario])
    except Exception:
        wrong = f"the experiment itself failed: {traceback.format_exc()[-1500:]}"
        return Outcome(point=point.id, family=point.family, ended="broken", wrong=[wrong])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
