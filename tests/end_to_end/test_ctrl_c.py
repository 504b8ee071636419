"""Ctrl-C at a terminal: once ends the build, twice says how far that is, three times leaves it to the reaper."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.world import OxideRegion, Prefect, eventually, process, write_definition


def asked(region: OxideRegion, operation: str) -> bool:
    """Whether the region was asked for something."""
    reply = httpx.get(f"{region.ready['control']}/requests", trust_env=False, timeout=30).json()
    return any(request["operation"] == operation for request in reply["requests"])


@pytest.mark.timeout(240)
@pytest.mark.xdist_group("prefect")
def test_it_is_told_what_goes_on_and_what_is_left(cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path) -> None:
    definition = cheap_region.definition({"type": "shell", "inline": [cheap_region.script]})
    build, log = write_definition(tmp_path / "build.yaml", definition), tmp_path / "build.log"

    def said(text: str) -> bool:
        return text in log.read_text(encoding="utf-8")

    # The first request to delete the instance takes longer than anyone waits.
    cheap_region.fault(operation="instance_delete", kind="latency", seconds=60)
    with process([sys.executable, "-m", "flows.oxide_image", str(build)], log, prefect.env) as child:
        run, builder = eventually(cheap_region.builder, 120, f"the script runs; see {log}")
        (instance,) = cheap_region.made()["instances"]
        os.kill(builder, signal.SIGINT)
        eventually(lambda: asked(cheap_region, "instance_delete"), 60, "the instance is being deleted")
        assert not said("under way")

        os.kill(builder, signal.SIGINT)
        eventually(lambda: said("Ctrl-C once more leaves"), 30, "it says how far it is")
        assert said("Still under way: tear down.")
        assert said(f"being removed: instance {instance['name']} ({instance['id']})")
        assert child.poll() is None

        os.kill(builder, signal.SIGINT)
        assert child.wait(30) == 130
        assert said(f"oxide instance stop --instance {instance['id']}")
        assert said(f"python -m flows.oxide_image {build} --clean-up {run}")
        eventually(lambda: not cheap_region.made(), 60, "the reaper has removed all of it")
        eventually(lambda: prefect.state(run) == "CRASHED", 30, "the server knows how it ended")
