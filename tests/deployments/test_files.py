"""The files for systemd, Compose and Kubernetes: what their own tools and schemas say, and what this project needs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from flows.fleet.definitions import read_fleet

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
SYSTEMD = sorted((DEPLOYMENTS / "systemd").iterdir())
KUBERNETES = [
    (path.name, document)
    for path in sorted((DEPLOYMENTS / "kubernetes").iterdir())
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
VERSION = "1.33"
LONGEST_TEARDOWN = 15 * 60


@pytest.mark.parametrize("path", SYSTEMD, ids=lambda path: path.name)
def test_systemd_takes_its_units(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # What is installed elsewhere, and is not there.
    text = path.read_text(encoding="utf-8").replace("/opt/image-bakery/.venv/bin/python", shutil.which("true") or "")
    unit = tmp_path / path.name.replace("@.", "@default.")
    unit.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if path.stem.partition("@")[0] in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_a_worker_that_systemd_stops_has_time_to_clean_up() -> None:
    text = (DEPLOYMENTS / "systemd/image-bakery-worker@.service").read_text(encoding="utf-8")
    options = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert options["KillMode"] == "mixed"
    assert int(options["TimeoutStopSec"].removesuffix("min")) * 60 > LONGEST_TEARDOWN
    assert " -m flows.worker " in options["ExecStart"]


@pytest.mark.parametrize(("name", "document"), KUBERNETES, ids=lambda value: value if isinstance(value, str) else "")
def test_kubernetes_takes_its_objects(name: str, document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, VERSION, strict=True)


def test_a_worker_that_kubernetes_stops_has_time_to_clean_up() -> None:
    (worker,) = (document for _, document in KUBERNETES if document["metadata"]["name"] == "image-bakery-worker")
    pod = worker["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > LONGEST_TEARDOWN
    assert pod["containers"][0]["command"][:3] == ["python", "-m", "flows.worker"]


def test_compose() -> None:
    path = DEPLOYMENTS / "compose/compose.yaml"
    services = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            assert other in services, f"{name} depends on {other}"
        assert "image" in service or "build" in service
    build = services["server"]["build"]
    assert (path.parent / build["context"] / build["dockerfile"]).is_file()
    worker = services["worker"]
    assert int(worker["stop_grace_period"].removesuffix("m")) * 60 > LONGEST_TEARDOWN
    assert worker["command"][:3] == ["python", "-m", "flows.worker"]


def test_compose_by_its_own_tool() -> None:
    has_compose = ["docker", "compose", "version"]
    if shutil.which("docker") is None or subprocess.run(has_compose, capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    file = str(DEPLOYMENTS / "compose/compose.yaml")
    argv = ["docker", "compose", "--file", file, "config", "--quiet"]
    subprocess.run(argv, check=True, env={"POSTGRES_PASSWORD": "x", "PATH": "/usr/bin:/bin"})


@pytest.mark.parametrize("directory", ["", "region-in-a-box"])
def test_the_definitions_that_come_with_it(directory: str) -> None:
    assert len(read_fleet(DEPLOYMENTS / directory)) >= 3


def test_weekly_builds_do_not_all_start_at_once() -> None:
    fleet = read_fleet(DEPLOYMENTS / "region-in-a-box")
    begins = {definition.file: definition.deployment.all_schedules[0].cron for definition in fleet}
    assert len(set(begins.values())) == len(begins)
