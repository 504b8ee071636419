"""What happens at a point. Each scenario is a function of a lane, a point, and what existed before."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from tests.chaos.census import Census
from tests.chaos.lane import BUILD_LIMIT, Build, Lane
from tests.chaos.points import Outcome, Point

Scenario = Callable[[Lane, Point, Census], Outcome]
SCENARIOS: dict[str, Scenario] = {}

SHELL = {"type": "shell", "name": "work", "inline": ["echo baked > /made"]}


def scenario(function: Scenario) -> Scenario:
    """List a scenario by its name."""
    SCENARIOS[function.__name__] = function
    return function


def outcome(point: Point, ended: str, what: str = "") -> Outcome:
    return Outcome(point=point.id, family=point.family, ended=ended, what=what)


def cleaned(lane: Lane, result: Outcome, before: Census, since: float) -> Outcome:
    """Wait until nothing is left of a build, and note how long that took."""
    result.seconds_until_clean, left = lane.clean_after(before, since)
    result.leaks += left
    return result


def judged(lane: Lane, build: Build, code: int | None, result: Outcome, before: Census) -> Outcome:
    """Judge a build that was not killed: it ends with its one image or a clear error, and leaves nothing else.

    One that could not even look for what it left says so, and keeps it in mind; then a person reclaims.
    """
    could_look = "could not be looked for" not in build.said
    cleaned(lane, result, before, build.ended_at if could_look else reclaim_here(lane, result))
    result.ended = "succeeded" if code == 0 else "failed"
    made = len(lane.census().artifacts_since(before))
    if code is None:
        result.ended = "hung"
        result.wrong.append(f"it was not through after {BUILD_LIMIT} s")
    elif made > 1 or (code == 0 and made == 0):
        result.wrong.append(f"it ended with code {code}, and there are {made} images")
    elif code not in (0, 2):
        error = re.search(r"^The build failed: (.+)", build.said, re.M | re.S)
        if error is None:
            result.wrong.append(f"it ended with code {code} and said no clear error: {build.said[-300:]}")
        elif "Traceback" in error[1]:
            result.wrong.append(f"its error is a traceback: {error[1][:300]}")
        else:
            result.what += f": {error[1].strip().splitlines()[0][:200]}"
    return result


def baked_alone(lane: Lane, point: Point, before: Census, what: str, build: Build) -> Outcome:
    """Wait for a build that nobody kills, and judge it."""
    code = build.wait()
    return judged(lane, build, code, outcome(point, "", what), before)


def reclaim_here(lane: Lane, result: Outcome) -> float:
    """What a person types on the host where a build died. Returns when it began."""
    lane.proxy.set(None)
    env = {name: value for name, value in lane.env.items() if name != "PREFECT_API_URL"}
    began = time.monotonic()
    reclaim = lane.start("flows.reclaim", str(lane.logs / f"{lane.number}.yaml"), env=env)
    if (code := reclaim.wait()) != 0:
        result.wrong.append(f"reclaim ended with code {code}: {reclaim.said[-300:]}")
    return began
