"""What the reaper tells the Prefect server of a build whose process did not live to tell it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.end_to_end.world import ROOT, Prefect, eventually, is_alive

_DIES = """
import sys
from uuid import UUID
from tasks import reaper_line
from tasks.mark import Lineage
ground = {"cloud": "out of order"}
line = reaper_line.watch(reaper_line.Watch(Lineage(UUID(sys.argv[1]), 1), ground))
print(reaper_line.reaper_here(), flush=True)
getattr(line, sys.argv[2])(cut=sys.argv[3] == "cut")
"""


@pytest.mark.timeout(200)
@pytest.mark.xdist_group("prefect")
@pytest.mark.parametrize("teardown", ["done", "take_over"])
@pytest.mark.parametrize(("ends", "state"), [("cut", "CRASHED"), ("by itself", "RUNNING")])
def test_a_build_that_was_cut_is_no_longer_called_running(
    prefect: Prefect, teardown: str, ends: str, state: str
) -> None:
    flow = prefect.request("POST", "/flows/", {"name": "build-oxide-image"})["id"]
    run = prefect.request("POST", "/flow_runs/", {"flow_id": flow, "state": {"type": "PENDING"}})["id"]
    prefect.request("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "RUNNING"}})
    said = subprocess.run(
        [sys.executable, "-c", _DIES, run, teardown, ends],
        env=dict(prefect.env), cwd=ROOT, check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    eventually(lambda: not is_alive(int(said)), 90, "the reaper has ended")
    assert prefect.state(run) == state
