"""All points of a run, from what a clean build asks its region for."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.chaos.kills import PROVISIONERS
from tests.chaos.odd_guests import odd_things
from tests.chaos.points import Point, Trace

LANES = ["oxide", "outscale", "oxide-servers", "oxide-qemu"]
"""Kinds of lanes: most points on cheap machines and on block devices; what waits for minutes; virtual machines."""

SHARES = {
    "kill": 5,
    "fault": 4,
    "reclaim": 2,
    "provisioner": 1.5,
    "odd": 1.5,
    "cancel": 0.3,
    "retry": 0.5,
    "trouble": 0.7,
    "served-supervisor": 0.3,
    "served-group": 0.3,
    "worker-supervisor": 0.5,
    "worker-group": 0.5,
}
"""Of a lane's time, relative to each other; a family that is not named has 1."""

FAULTS: dict[str, dict[str, Any]] = {
    "429": {"kind": "status", "status": 429},
    "429-retry-after": {"kind": "status", "status": 429, "retry_after": "1"},
    "500": {"kind": "status", "status": 500},
    "503": {"kind": "status", "status": 503},
    "time-out": {"kind": "hang"},
    "dropped-before": {"kind": "drop_before"},
    "dropped-after": {"kind": "drop_after"},
    "always-503": {"kind": "status", "status": 503, "count": None},
}
"""What each operation of a build meets once, and the last one for as long as the build lives."""

TROUBLES: dict[str, dict[str, dict[str, Any]]] = {
    "oxide": {
        "no-room-for-the-instance": {"operation": "instance_create", "kind": "capacity", "what": "cpus"},
        "no-room-for-the-disk": {"operation": "instance_create", "kind": "capacity", "what": "storage"},
        "no-room-for-the-snapshot": {"operation": "snapshot_create", "kind": "capacity"},
        "the-instance-does-not-start": {"operation": "instance_create", "kind": "start_fails"},
        "the-instance-fails": {"operation": "instance_create", "kind": "instance_failed"},
        "the-disk-is-faulted": {"operation": "instance_create", "kind": "disk_faulted"},
        "the-snapshot-is-faulted": {"operation": "snapshot_create", "kind": "disk_faulted"},
    },
    "outscale": {
        "the-volume-goes-to-error": {"operation": "CreateVolume", "kind": "volume_error"},
        "the-link-fails": {"operation": "LinkVolume", "kind": "link_fails"},
        "the-link-takes-long": {"operation": "LinkVolume", "kind": "link_hangs", "seconds": 4},
        "the-snapshot-goes-to-error": {"operation": "CreateSnapshot", "kind": "snapshot_error"},
        "the-omi-fails": {"operation": "CreateImage", "kind": "image_failed"},
        "throttled": {"operation": "*", "kind": "throttle", "count": 20, "probability": 0.5, "seed": 1},
        "no-quota-for-the-volume": {"operation": "CreateVolume", "kind": "quota"},
    },
}
"""What goes wrong with a cloud's resources."""

_DELAYS = (0.0, 0.4, 1.5)
_MOMENTS = 40


def all_points(lane: str, trace: Trace, seed: int) -> Iterator[Point]:
    """The points of a lane."""

    def point(family: str, place: str, scenario: str, **parameters: Any) -> Point:
        return Point(id=f"{lane}/{family}/{place}", lane=lane, family=family, scenario=scenario, parameters=parameters)

    if lane.endswith("-servers"):
        yield from _servers(point)
        return
    if lane.endswith("-qemu"):
        yield from _virtual_machines(point, trace)
        return
    builder = lane.partition("-")[0]
    for label, nth in trace.moments():
        for when in ("before", "after"):
            at = {"label": label, "nth": nth, "when": when}
            place = f"{label}-{nth}/{when}"
            yield point("kill", place, "kill_at_request", **at)
            yield point("reclaim", place, "kill_at_request", **at, reaper=False)
            if label.startswith(("post", "delete", "Create", "Link", "Unlink", "Delete", "Update")):
                yield point("next-build", place, "kill_at_request", **at, reaper=False, next="build")
    for name in PROVISIONERS:
        if builder == "oxide" or name != "reboot":
            for delay in _DELAYS:
                for reaper in (True, False):
                    place = f"{name}/{delay:g}/{'reaper' if reaper else 'reclaim'}"
                    yield point(
                        "provisioner", place, "kill_in_provisioner", provisioner=name, delay=delay, reaper=reaper
                    )
    chance = random.Random(seed)
    for number in range(_MOMENTS):
        delay = round(chance.uniform(0.5, 9), 2)
        yield point("moment", str(number), "kill_at_moment", delay=delay, reaper=number % 4 != 0)
    for operation in dict.fromkeys(trace.operations):
        for name, told in FAULTS.items():
            yield point("fault", f"{operation}/{name}", "fault", fault={"operation": operation, **told})
    for label, nth in trace.moments():
        if nth == 1:
            yield point("late", label, "carried_out_late", label=label, nth=nth)
    for name, told in TROUBLES[builder].items():
        yield point("trouble", name, "fault", fault=told)
    for name in odd_things(builder):
        yield point("odd", name, "odd_guest", name=name)
    yield from _supervised(point, trace)


def _supervised(point: Callable[..., Point], trace: Trace) -> Iterator[Point]:
    moments = [(label, nth) for label, nth in trace.moments() if nth == 1]
    for how in ("served", "worker"):
        for victim in ("run", "supervisor", "group"):
            for label, nth in moments:
                for when in ("before", "after"):
                    for reaper in (True, False):
                        # A hook by itself for what the run's process leaves, reclaim for a whole group.
                        alone = {"run": "hook", "group": "reclaim", "supervisor": "no-reaper"}[victim]
                        yield point(
                            f"{how}-{victim}",
                            f"{label}-{nth}/{when}/{'reaper' if reaper else alone}",
                            "kill_supervised",
                            **{"how": how, "victim": victim, "label": label, "nth": nth, "when": when},
                            reaper=reaper,
                        )
    for how in ("command", "served", "worker"):
        yield point("cancel", how, "cancelled", how=how)
    yield point("retry", "at-once", "quick_retry")


def _servers(point: Callable[..., Point]) -> Iterator[Point]:
    for seconds in (30, 300):
        yield point("away", f"{seconds}-s", "server_away", seconds=seconds)
    for server in ("same", "another", "none"):
        yield point("containers", f"{server}-server", "another_container", server=server)
    yield point("containers", "dead", "dead_container")
    for reaper in (True, False):
        yield point("neighbour", "reaper" if reaper else "reclaim", "a_live_neighbour", reaper=reaper)


def _virtual_machines(point: Callable[..., Point], trace: Trace) -> Iterator[Point]:
    for label, nth in trace.moments():
        if nth == 1 and label.startswith(("post", "delete")):
            yield point("kill", f"{label}-{nth}/after", "kill_at_request", label=label, nth=nth, when="after")
    for delay in _DELAYS:
        yield point(
            "provisioner",
            f"shell/{delay:g}/reaper",
            "kill_in_provisioner",
            provisioner="shell",
            delay=delay,
            reaper=True,
        )
    yield point("odd", "full-disk", "odd_guest", name="full-root")
