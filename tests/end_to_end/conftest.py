"""The parts of the world, each started once for all tests of a process that need it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.world import (
    ROOT,
    OutscaleRegion,
    OxideRegion,
    Prefect,
    in_memory,
    outscale_region,
    oxide_region,
    prefect_server,
    process,
)


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A Prefect server."""
    with in_memory() as home, prefect_server(tmp_path_factory.mktemp("prefect"), home=home) as server:
        yield server


def needs_root(what: str) -> None:
    """Skip without root; in CI that is a failure."""
    if os.geteuid() != 0:
        assert not os.environ.get("CI"), f"{what} need root's rights"
        pytest.skip(f"{what} need root's rights")


@pytest.fixture
def outscale(tmp_path: Path, tiny: Path) -> Iterator[OutscaleRegion]:
    """An OUTSCALE region."""
    needs_root("block devices")
    with outscale_region(tmp_path, tiny) as region:
        yield region


@pytest.fixture
def cheap_region(tmp_path: Path, tiny: Path) -> Iterator[OxideRegion]:
    """A region whose instances are SSH servers in private roots: no guest is booted."""
    needs_root("cheap machines")
    with oxide_region(tmp_path, tiny, "cheap") as region:
        yield region


@pytest.fixture
def qemu_region(tmp_path: Path, tiny: Path) -> Iterator[OxideRegion]:
    """A region whose instances are virtual machines."""
    with oxide_region(tmp_path, tiny, "qemu") as region:
        yield region


@pytest.fixture(scope="session")
def deployed(prefect: Prefect) -> Prefect:
    """A server on which block types, work pool and deployments are registered, by the README's own command."""
    subprocess.run(
        ["tools/deploy"], env=dict(prefect.env), cwd=ROOT, check=True, timeout=180, stdout=subprocess.DEVNULL
    )
    # They would look after the builds of all tests, whose regions come and go; tests of their own run them.
    for name in ("reclaim", "watch", "fleet-page"):
        deployment = prefect.request("GET", f"/deployments/name/{name}/{name}")
        prefect.request("DELETE", f"/deployments/{deployment['id']}")
    return prefect


@pytest.fixture
def worker(deployed: Prefect, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The one process worker of the work pool."""
    argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "bakery"]
    with process(argv, tmp_path / "worker.log", deployed.env) as child:
        yield child
