"""What a region does wrong: refused, late, lost and half-done requests, and resources that fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.chaos.census import Census
from tests.chaos.lane import Lane
from tests.chaos.points import Outcome, Point
from tests.chaos.proxy import Trap, When
from tests.chaos.scenarios import SHELL, judged, outcome, scenario


@scenario
def fault(lane: Lane, point: Point, before: Census) -> Outcome:
    """The region does something wrong at one operation, once or as long as the build lives."""
    told: Mapping[str, Any] = point.parameters["fault"]
    lane.control("POST", "/faults", dict(told))
    build = lane.start_build(lane.definition(SHELL, **point.parameters.get("options", {})))
    code = build.wait()
    fired = sum(found["fired"] for found in lane.control("GET", "/faults")["faults"])
    lane.control("DELETE", "/faults")
    result = judged(lane, build, code, outcome(point, "", f"{told['kind']} at {told['operation']}"), before)
    return result if fired else result.model_copy(update={"ended": "not reached"})


@scenario
def carried_out_late(lane: Lane, point: Point, before: Census) -> Outcome:
    """The build gives a request up after its time-out; the region does what was asked for only then."""
    label, nth = point.parameters["label"], int(point.parameters["nth"])
    trap = Trap(label, nth, When.LATE, lambda: None)
    lane.proxy.set(trap)
    build = lane.start_build(lane.definition(SHELL))
    code = build.wait()
    what = f"{label}, seen for the {nth}. time, carried out after its time-out"
    result = judged(lane, build, code, outcome(point, "", what), before)
    return result if trap.sprung.is_set() else result.model_copy(update={"ended": "not reached"})
