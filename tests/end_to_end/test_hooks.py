"""Each hook alone: the reaper is killed first, and what the build's own process could have done is not done."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.test_reclaim import reaper_of
from tests.end_to_end.test_ways_out import Running, by_command, by_serving, by_worker, cancel, terminate
from tests.end_to_end.world import OxideRegion, Prefect, eventually, is_alive

pytestmark = [pytest.mark.timeout(280), pytest.mark.xdist_group("prefect")]

SOON = 60
Start = Callable[..., Any]


def without_reaper(region: OxideRegion) -> tuple[str, int]:
    """The run and the process that builds, in the middle of its provisioner, whose reaper is gone."""
    run, builder = eventually(region.builder, 120, "the provisioner runs")
    reaper = reaper_of(builder)
    os.kill(reaper, signal.SIGKILL)
    eventually(lambda: not is_alive(reaper), 30, "the reaper is gone")
    return run, builder


def hanging(region: OxideRegion, **options: Any) -> dict[str, Any]:
    return region.definition({"type": "shell", "name": "wait", "inline": [region.script]}, **options)


def ended(prefect: Prefect, run: str, state: str) -> None:
    eventually(lambda: prefect.state(run) == state, SOON, f"the run is {state}")


slowly = pytest.mark.slow


@pytest.mark.parametrize("start", [pytest.param(by_serving, marks=slowly), by_worker], ids=["serve", "worker"])
def test_on_crashed_of_a_killed_process(
    start: Start, cheap_region: OxideRegion, deployed: Prefect, tmp_path: Path
) -> None:
    with start(hanging(cheap_region), deployed, cheap_region, tmp_path):
        run, builder = without_reaper(cheap_region)
        os.kill(builder, signal.SIGKILL)
        eventually(lambda: not cheap_region.made(), SOON, "nothing is left")
        ended(deployed, run, "CRASHED")


@pytest.mark.parametrize("start", [by_serving, pytest.param(by_worker, marks=slowly)], ids=["serve", "worker"])
def test_on_cancellation_of_a_process_that_does_not_answer(
    start: Start, cheap_region: OxideRegion, deployed: Prefect, tmp_path: Path
) -> None:
    with start(hanging(cheap_region), deployed, cheap_region, tmp_path) as group:
        run, builder = without_reaper(cheap_region)
        # It does not hear the SIGTERM that it is cancelled by, and is killed 30 s later.
        os.kill(builder, signal.SIGSTOP)
        cancel(Running(run, builder, group), deployed)
        eventually(lambda: not cheap_region.made(), SOON, "nothing is left")
        ended(deployed, run, "CANCELLED")


def fail(build: Running, _: Prefect) -> None:
    del build


@pytest.mark.parametrize(
    ("way", "state"),
    [
        (fail, "FAILED"),
        pytest.param(terminate, "CRASHED", marks=slowly),
    ],
    ids=["on_failure", "on_crashed"],
)
def test_in_the_flows_own_process(
    way: Callable[[Running, Prefect], None], state: str, cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path
) -> None:
    """Its own teardown gives up; the region is mended when the hook's turn comes.

    Prefect calls no hook in the own process of a flow that ends as cancelled: there reclaim is next.
    """
    cheap_region.fault(operation="instance_delete", kind="status", status=403, count=None)
    patient = replace(prefect, env={**prefect.env, "IMAGE_BAKERY_TEARDOWN_TIMEOUT": "6"})
    with by_command(hanging(cheap_region), patient, cheap_region, tmp_path) as group:
        run, builder = without_reaper(cheap_region)
        way(Running(run, builder, group), prefect)
        if way is fail:
            for pid in cheap_region.script_processes():
                os.kill(int(pid), signal.SIGKILL)
        log = tmp_path / "build.log"
        eventually(lambda: "Teardown is not through" in log.read_text(encoding="utf-8"), 90, "its own teardown ends")
        assert cheap_region.made()
        cheap_region.no_faults()
        eventually(lambda: not cheap_region.made(), SOON, "nothing is left")
        ended(prefect, run, state)


def test_without_credentials_it_says_what_is_left_and_how_to_remove_it(
    cheap_region: OxideRegion, deployed: Prefect, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_bytes(Path(cheap_region.ready["token_file"]).read_bytes())
    with by_worker(hanging(cheap_region, token={"file": str(token)}), deployed, cheap_region, tmp_path):
        run, builder = without_reaper(cheap_region)
        (instance,) = cheap_region.made()["instances"]
        token.unlink()
        os.kill(builder, signal.SIGKILL)
        command = f"oxide instance delete --instance {instance['id']}"

        def message() -> str:
            return str(deployed.request("GET", f"/flow_runs/{run}")["state"]["message"])

        eventually(lambda: command in message(), SOON, "the state says what is left")
        assert deployed.state(run) == "CRASHED"
        assert "the file cannot be read" in message()
        eventually(lambda: command in deployed.log(run), SOON, "the run's log says so, too")
        assert cheap_region.made()
