"""Definition files as deployments on a real server: made, repeated, left, pruned; and built elsewhere at a commit."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.world import ROOT, OxideRegion, Prefect, eventually, process, write_definition

OPTIONS = {"project": "bakery", "ssh_username": "root", "host": "http://127.0.0.1:9", "token": {"env": "TOKEN"}}
BASE = {**OPTIONS, "boot_disk_image_id": "tiny", "artifact_name": "base-{{timestamp}}"}
WEB = {
    **OPTIONS,
    "source": {"definition": "base"},
    "rebuild": ["source"],
    "deployment": {
        "schedules": [{"cron": "0 3 * * 1"}, {"interval": "36h"}],
        "work_queue": {"name": "images", "concurrency_limit": 3},
        "concurrency_limit": 2,
        "tags": ["web"],
        "paused": True,
        "triggers": [{"expect": ["pushed"], "match": {"prefect.resource.id": "repository"}}],
    },
}
OMI = {"source_omi": "ami-12345678", "omi_name": "omi", "deployment": {"work_queue": "vm-1"}}


def deploy(prefect: Prefect, directory: Path, *more: str, code: int = 0, root: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "flows.deploy", str(directory), *more],
        env=dict(prefect.env),
        cwd=root, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def automations(prefect: Prefect, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = prefect.request(
        "GET", f"/automations/related-to/prefect.deployment.{deployment['id']}"
    )
    return found


@pytest.fixture
def own(prefect: Prefect) -> Iterator[Prefect]:
    """The server with no fleet on it; no schedule of these tests goes on afterwards."""
    prefect.forget_fleet()
    yield prefect
    for deployment in prefect.request("POST", "/deployments/filter", {}):
        if deployment["schedules"]:
            prefect.request("DELETE", f"/deployments/{deployment['id']}")


@pytest.mark.timeout(500)
@pytest.mark.xdist_group("prefect")
def test_from_files_to_deployments_and_back(own: Prefect, tmp_path: Path) -> None:
    base = write_definition(
        tmp_path / "base.yaml", {**BASE, "host": None, "token": None, "credentials": {"block": "gone"}}
    )
    said = deploy(own, tmp_path, code=2)
    assert "credentials (base.yaml, line" in said
    assert own.fleet() == {}

    write_definition(base, BASE)
    write_definition(tmp_path / "web.yaml", WEB)
    write_definition(tmp_path / "omi.yaml", OMI)
    assert "new      deployment build-oxide-image/web" in deploy(own, tmp_path, "--dry-run")
    assert own.fleet() == {}

    deploy(own, tmp_path)
    first = own.fleet()
    # The last is reclaim on that VM.
    assert set(first) == {"base", "web", "omi", "vm-1"}
    assert first["vm-1"]["work_queue_name"] == "vm-1"
    web = first["web"]
    assert web["parameters"] == {
        # Where the form that starts a build by hand looks for them.
        "build": {
            "project": OPTIONS["project"],
            "ssh_username": OPTIONS["ssh_username"],
            "build_name": "web",
            "access": {"host": OPTIONS["host"], "token": OPTIONS["token"]},
            "endings": {"definition_file": str(tmp_path / "web.yaml")},
        },
        "definition": "web",
        "family": {"source": {"definition": "base"}, "rebuild": ["source"]},
    }
    assert (web["paused"], web["global_concurrency_limit"]["limit"], web["work_queue_name"]) == (True, 2, "images")
    assert {"image-build", "web"} <= set(web["tags"])
    schedules = {each["slug"]: each["schedule"] for each in web["schedules"]}
    assert schedules["schedule-1"]["cron"] == "0 3 * * 1"
    assert schedules["schedule-2"]["interval"] == 36 * 3600
    (step,) = web["pull_steps"]
    assert step["prefect.deployments.steps.set_working_directory"]["directory"] == str(ROOT)
    events = {tuple(each["trigger"]["expect"]): each["trigger"]["match"] for each in automations(own, web)}
    assert events == {
        ("image.source.updated",): {"prefect.resource.id": ["image-bakery.definition.web"]},
        ("image.built",): {"prefect.resource.id": ["image-bakery.definition.base"]},
        ("pushed",): {"prefect.resource.id": "repository"},
    }
    queue = own.request("GET", "/work_pools/bakery/queues/images")
    assert queue["concurrency_limit"] == 3

    # A repetition changes what the files say, and doubles nothing.
    write_definition(tmp_path / "web.yaml", {**WEB, "deployment": {"work_queue": "images"}})
    (tmp_path / "omi.yaml").unlink()
    said = deploy(own, tmp_path)
    again = own.fleet()
    assert {name: each["id"] for name, each in again.items()} == {name: each["id"] for name, each in first.items()}
    assert again["web"]["schedules"] == []
    assert again["web"]["global_concurrency_limit"]["limit"] == 1
    assert len(automations(own, again["web"])) == 2
    assert own.request("GET", "/work_pools/bakery/queues/images")["concurrency_limit"] is None
    assert "left     deployment build-outscale-image/omi" in said
    assert "left     work queue bakery/vm-1" in said

    said = deploy(own, tmp_path, "--prune")
    assert set(own.fleet()) == {"base", "web"}
    assert automations(own, first["omi"]) == []
    names = [each["name"] for each in own.request("POST", "/work_pools/bakery/queues/filter", {})]
    assert "images" in names
    assert "vm-1" not in names


def git(directory: Path, *words: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "safe.directory=*"]
    return subprocess.check_output(["git", *identity, "-C", str(directory), *words], text=True).strip()


@pytest.mark.timeout(280)
@pytest.mark.xdist_group("prefect")
def test_a_worker_elsewhere_has_definitions_and_scripts_of_the_commit(
    own: Prefect, cheap_region: OxideRegion, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    for name in git(ROOT, "ls-files", "flows", "tasks", "blocks", "prefect.yaml").splitlines():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, repository / name)
    prefect_yaml = yaml.safe_load((repository / "prefect.yaml").read_text(encoding="utf-8"))
    step = {"repository": f"file://{repository}", "commit_sha": "{{ $IMAGE_BAKERY_COMMIT }}"}
    prefect_yaml["pull"] = [{"prefect.deployments.steps.git_clone": step}]
    (repository / "prefect.yaml").write_text(yaml.safe_dump(prefect_yaml), encoding="utf-8")
    (repository / "deployments").mkdir()
    script = repository / "deployments/say.sh"
    script.write_text("echo of the commit\n", encoding="utf-8")
    definition = cheap_region.definition({"type": "shell", "script": "say.sh"}, build_name="elsewhere")
    write_definition(repository / "deployments/elsewhere.yaml", definition)
    git(repository, "init", "--quiet")
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "true")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "definitions")
    script.write_text("echo of no commit\n", encoding="utf-8")
    said = deploy(own, repository / "deployments", code=1, root=repository)
    assert "no commit holds" in said
    git(repository, "checkout", "--quiet", "--", "deployments")
    deploy(own, repository / "deployments", root=repository)
    script.write_text("echo of no commit\n", encoding="utf-8")

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    start = f"cd {elsewhere} && exec {sys.executable} -m prefect worker start --pool bakery"
    with process(["sh", "-c", start], tmp_path / "worker.log", own.env):
        own.command("deployment", "run", "build-oxide-image/elsewhere")
        deployment = own.fleet()["elsewhere"]["id"]
        wanted = {"deployments": {"id": {"any_": [deployment]}}}
        (run,) = eventually(lambda: own.request("POST", "/flow_runs/filter", wanted), 30, "there is a run")
        eventually(lambda: own.state(run["id"]) in {"COMPLETED", "FAILED", "CRASHED"}, 150, "the run ends")
        assert own.state(run["id"]) == "COMPLETED", own.log(run["id"])
        # Its process sends the last lines after its last state: the worker must not end before.
        log = own.log_with(run["id"], "Baked image ")
    assert "of the commit" in log
    assert "of no commit" not in log
