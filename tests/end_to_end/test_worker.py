"""The worker of services and containers: when it has ended, what its builds had made is gone."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.end_to_end.world import OxideRegion, Prefect, eventually, process


@pytest.mark.timeout(280)
@pytest.mark.xdist_group("prefect")
def test_a_worker_that_is_stopped_ends_after_its_builds_are_cleaned_up(
    deployed: Prefect, cheap_region: OxideRegion, tmp_path: Path
) -> None:
    hang = {"type": "shell", "inline": [cheap_region.script]}
    build = json.dumps(cheap_region.definition(hang))
    argv = [sys.executable, "-m", "flows.worker", "--pool", "bakery"]
    with process(argv, tmp_path / "worker.log", deployed.env) as worker:
        deployed.command("deployment", "run", "build-oxide-image/by-hand", "--param", f"build={build}")
        eventually(cheap_region.builder, 120, f"the script runs; see {tmp_path / 'worker.log'}")
        assert cheap_region.made()
        worker.send_signal(signal.SIGTERM)
        worker.wait(90)
        assert cheap_region.made() == {}
    assert cheap_region.script_processes() == []
