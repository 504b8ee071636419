"""A fleet on a server: only the source image changes, and the server's own automations build what is made of it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from blocks.outscale.credentials import OutscaleCredentials
from blocks.outscale.models import ImageCreate, ImageFilters
from tests.end_to_end.conftest import needs_root
from tests.end_to_end.world import (
    ROOT,
    OutscaleRegion,
    OxideRegion,
    Prefect,
    eventually,
    in_memory,
    oxide_region,
    prefect_server,
    process,
)

GIB = 1024**3
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
LONG = 600


@dataclass(frozen=True)
class World:
    """A region with a source image, a server with a fleet of deployments, and a worker."""

    region: OxideRegion
    prefect: Prefect
    directory: Path

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the region, as the owner of the source image does."""
        token = Path(self.region.ready["token_file"]).read_text(encoding="utf-8").strip()
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{self.region.ready['api']}{path}"
        reply = httpx.request(method, url, json=body, headers=headers, trust_env=False, timeout=60)
        assert reply.is_success, reply.text
        return reply.json() if reply.content else None

    def publish_source(self) -> str:
        """Put a new image in the place of the one called upstream, or make the first. Its id."""
        project = f"?project={self.region.ready['project']}"
        for image in self.api("GET", f"/v1/images{project}")["items"]:
            if image["name"] == "upstream":
                self.api("DELETE", f"/v1/images/{image['id']}")
        tiny = self.api("GET", "/v1/images/tiny")["id"]
        source = {"type": "create", "disk_source": {"type": "image", "image_id": tiny}}
        named = {"name": "upstream", "description": "new"}
        backend = {"type": "distributed", "disk_source": source["disk_source"]}
        disk = self.api("POST", f"/v1/disks{project}", {**named, "size": GIB, "disk_backend": backend})
        snapshot = self.api("POST", f"/v1/snapshots{project}", {**named, "disk": disk["id"]})
        from_snapshot = {"type": "snapshot", "id": snapshot["id"]}
        image = self.api(
            "POST", f"/v1/images{project}", {**named, "os": "linux", "version": "1", "source": from_snapshot}
        )
        self.api("DELETE", f"/v1/snapshots/{snapshot['id']}")
        self.api("DELETE", f"/v1/disks/{disk['id']}")
        return str(image["id"])

    def beside(self, name: str) -> World:
        """The same with other definitions: deploying all again takes its time."""
        directory = self.directory.with_name(name)
        directory.mkdir()
        return replace(self, directory=directory)

    def define(self, name: str, *provisioners: dict[str, Any], **options: Any) -> None:
        """Write a definition file."""
        build = self.region.definition(*provisioners, build_name=name, **options)
        if "source" in options:
            del build["boot_disk_image_id"]
        # JSON is YAML.
        (self.directory / f"{name}.yaml").write_text(json.dumps(build), encoding="utf-8")

    def command(self, *words: str, code: int = 0) -> str:
        """Run a command line of ours."""
        argv = [sys.executable, "-m", *words]
        done = subprocess.run(
            argv, env=dict(self.prefect.env), cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def current(self, name: str) -> dict[str, str]:
        """A definition's current image, as its artifact says."""
        body = {"artifacts": {"key": {"any_": [f"image-{name}"]}}}
        found = self.prefect.request("POST", "/artifacts/latest/filter", body)
        return {row["what"]: row["value"] for row in json.loads(found[0]["data"])} if found else {}

    def runs(self, name: str, flow: str = "build-oxide-image") -> list[dict[str, Any]]:
        """The runs of a definition's deployment that were to have begun by now."""
        deployment = self.prefect.request("GET", f"/deployments/name/{flow}/{name}")
        body = {"flow_runs": {"deployment_id": {"any_": [deployment["id"]]}}, "limit": 200}
        runs = self.prefect.request("POST", "/flow_runs/filter", body)
        return [run for run in runs if run["start_time"] or not run["auto_scheduled"]]

    def built(self, name: str) -> list[dict[str, Any]]:
        """Those of them that made an image."""
        return [run for run in self.runs(name) if run["state_name"] == "Completed"]

    def at_rest(self, expected: Mapping[str, int]) -> bool:
        """Whether so many runs of each definition have ended, and none is under way. A busy server is given time."""
        time.sleep(1)
        body = {"flow_runs": {"tags": {"all_": ["image-build"]}}, "limit": 200}
        try:
            runs = self.prefect.request("POST", "/flow_runs/filter", body)
        except httpx.TimeoutException:
            return False
        ours = [run for run in runs if run["deployment_id"] and run["parameters"]["definition"] in expected]
        counted = Counter(run["parameters"]["definition"] for run in ours if run["state_type"] in FINAL)
        return len(ours) == counted.total() and all(counted[name] >= expected[name] for name in expected)

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Events of these names, the newest first."""
        body = {"filter": {"event": {"name": list(names)}}, "limit": 50}
        found: list[dict[str, Any]] = self.prefect.request("POST", "/events/filter", body)["events"]
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[World]:
    needs_root("cheap machines")
    home = tmp_path_factory.mktemp("fleet")
    (home / "definitions").mkdir()
    (home / "region").mkdir()
    with (
        oxide_region(home / "region", tiny, "cheap") as region,
        in_memory() as memory,
        prefect_server(home, home=memory) as prefect,
    ):
        world = World(region, prefect, home / "definitions")
        world.publish_source()
        yield world


@pytest.fixture
def worker(world: World, tmp_path: Path) -> Iterator[None]:
    argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "bakery"]
    with process(argv, tmp_path / "worker.log", world.prefect.env):
        yield


DIAMOND = ("base", "left", "right", "web")


@pytest.fixture(scope="module")
def diamond(world: World) -> World:
    """base → left, right → web, deployed, and each of them built once."""
    upstream = {"name": "upstream", "project": world.region.ready["project"]}
    broken = f"test ! -e {world.directory}/broken"
    world.define("base", boot_disk_image_id=upstream, manifest="packer-manifest.json")
    world.define("left", source={"definition": "base"})
    world.define("right", {"type": "shell-local", "inline": [broken]}, source={"definition": "base"})
    world.define("web", source={"definition": "left"}, rebuild_after=["right"])
    world.command("flows.deploy", str(world.directory))
    said = world.command("flows.build_all", str(world.directory))
    assert set(re.findall(r"^(\w+) +built ", said, re.M)) == set(DIAMOND)
    return world


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_new_source_image_rebuilds_all_that_is_made_of_it_once(diamond: World, worker: None) -> None:
    world = diamond
    before = {name: world.current(name) for name in DIAMOND}
    assert before["web"]["source_id"] == before["left"]["id"]
    assert before["web"]["parent right"] == before["right"]["id"]
    source = world.publish_source()
    changed = datetime.now(UTC)

    world.prefect.command("deployment", "run", "watch/watch")
    # A run for each event, those of build_all's images included.
    expected = {"base": 1, "left": 2, "right": 2, "web": 4}
    eventually(lambda: world.at_rest(expected), LONG, "a run for each event has ended")

    after = {name: world.current(name) for name in DIAMOND}
    assert after["base"]["source_id"] == source
    assert after["left"]["source_id"] == after["right"]["source_id"] == after["base"]["id"]
    assert after["web"]["source_id"] == after["left"]["id"]
    assert after["web"]["parent right"] == after["right"]["id"]
    assert all(after[name]["id"] != before[name]["id"] for name in DIAMOND)
    # Nobody but the server's automations started anything, and each definition was built once.
    for name in DIAMOND:
        assert len(world.built(name)) == 1, name
        assert {run["created_by"]["type"] for run in world.runs(name)} == {"AUTOMATION"}, name
        assert {run["state_type"] for run in world.runs(name)} == {"COMPLETED"}, name
    built = world.events("image.built")[:4]
    assert [event["payload"]["definition"] for event in built][::-3] == ["base", "web"]
    assert built[0]["payload"]["parents"] == {"left": after["left"]["id"], "right": after["right"]["id"]}
    first = min(datetime.fromisoformat(run["start_time"]) for run in world.runs("base"))
    print(f"\nFrom the change to the first step of the rebuild: {(first - changed).total_seconds():.1f} s")

    manifest = json.loads((world.directory / "packer-manifest.json").read_text(encoding="utf-8"))
    assert [build["artifact_id"] for build in manifest["builds"]] == [before["base"]["id"], after["base"]["id"]]
    assert manifest["last_run_uuid"] == after["base"]["run"]

    said = world.command("flows.watch")
    assert {line.partition(": ")[2] for line in said.splitlines() if line.startswith(DIAMOND)} == {"is up to date"}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_parent_that_fails_stops_its_branch_and_is_not_tried_without_end(diamond: World, worker: None) -> None:
    world = diamond
    web = world.current("web")
    built = len(world.built("web"))
    (world.directory / "broken").touch()
    world.publish_source()
    world.command("flows.watch")
    blocked = eventually(
        lambda: [run for run in world.runs("web") if run["state_name"] == "Blocked by right"], LONG, "web is blocked"
    )
    eventually(lambda: world.at_rest(dict.fromkeys(DIAMOND, 1)), 120, "all runs have ended")
    assert "right, which it is made after, failed" in blocked[0]["state"]["message"]
    assert world.current("web") == web
    failure = world.events("image.failed")[0]["payload"]
    assert failure["definition"] == "right"
    assert "shell-local" in failure["step"]
    assert failure["hint"]
    assert {event["payload"]["by"] for event in world.events("image.blocked")} == {"right"}
    # What failed for this source is left to a person, who mends it; then the rest of the branch follows by itself.
    runs = len(world.runs("right"))
    said = world.command("flows.watch")
    assert "web: is behind; right, which it is made after, failed" in said
    assert "right: is behind; its build failed" in said
    assert len(world.runs("right")) == runs
    (world.directory / "broken").unlink()
    world.prefect.command("deployment", "run", "build-oxide-image/right")
    eventually(lambda: len(world.built("web")) == built + 1, LONG, "web is built")
    assert world.current("web")["parent right"] == world.current("right")["id"]


def brought_forward(world: World, name: str) -> list[str]:
    """Let the first two runs that a definition's schedule has made begin now, one after the other. Their ids."""
    deployment = world.prefect.request("GET", f"/deployments/name/build-oxide-image/{name}")
    body = {
        "flow_runs": {"deployment_id": {"any_": [deployment["id"]]}, "state": {"type": {"any_": ["SCHEDULED"]}}},
        "sort": "NEXT_SCHEDULED_START_TIME_ASC",
        "limit": 2,
    }
    runs = eventually(
        lambda: found if len(found := world.prefect.request("POST", "/flow_runs/filter", body)) == 2 else None,
        60,
        "the scheduler has made two runs",
    )
    first, second = (datetime.fromisoformat(run["next_scheduled_start_time"]) for run in runs)
    assert (second - first).days == 7
    for run in runs:
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": datetime.now(UTC).isoformat()}}
        world.prefect.request("POST", f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
    return [run["id"] for run in runs]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_weekly_schedule_builds_every_week_or_when_something_has_changed(world: World, worker: None) -> None:
    world = world.beside("weekly")
    weekly = {"schedule": {"cron": "0 3 * * 1"}}
    upstream = {"name": "upstream", "project": world.region.ready["project"]}
    world.define("always", boot_disk_image_id=upstream, deployment=weekly)
    world.define("thrifty", boot_disk_image_id=upstream, deployment=weekly, rebuild=["source", "definition"])
    world.command("flows.build_all", str(world.directory), "--only", "always", "--only", "thrifty")
    world.command("flows.deploy", str(world.directory))
    images = len(world.region.made()["images"])
    thrifty = world.current("thrifty")

    runs = {name: brought_forward(world, name) for name in ("always", "thrifty")}
    for name, ids in runs.items():
        for run in ids:
            eventually(lambda run=run: world.prefect.state(run) == "COMPLETED", LONG, f"{name} has run")  # type: ignore[misc]
    assert len(world.region.made()["images"]) == images + 2
    assert len({image["name"] for image in world.region.made()["images"]}) == images + 2
    assert world.current("thrifty") == thrifty
    for run in runs["thrifty"]:
        state = world.prefect.request("GET", f"/flow_runs/{run}")["state"]
        assert state["name"] == "Unchanged"
        assert thrifty["id"] in state["message"]
    pages = {"artifacts": {"flow_run_id": {"any_": runs["thrifty"]}}}
    found = world.prefect.request("POST", "/artifacts/filter", pages)
    assert ["Nothing was built" in page["data"] for page in found] == [True, True]


@pytest.mark.timeout(200)
def test_a_push_to_the_definitions_repository_starts_a_build_of_what_changed(world: World) -> None:
    world = world.beside("pushed")
    world.command("flows.deploy", str(world.directory))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script = next(block for block in re.findall(r"```sh\n(.*?)```", readme, re.S) if "definitions.pushed" in block)
    subprocess.run(["sh", "-euc", script], env=dict(world.prefect.env), check=True, timeout=60)
    deployment = world.prefect.request("GET", "/deployments/name/build-all/build-all")
    body = {"flow_runs": {"deployment_id": {"any_": [deployment["id"]]}}}
    runs = eventually(lambda: world.prefect.request("POST", "/flow_runs/filter", body), 60, "an automation starts it")
    run = runs[0]
    assert run["created_by"]["type"] == "AUTOMATION"
    assert run["parameters"]["only_changed"] is True
    state = {"type": "CANCELLED", "name": "Cancelled"}
    world.prefect.request("POST", f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})


async def publish_omi(region: OutscaleRegion, name: str) -> str:
    """A new OMI of the same disk as that which came with the region."""
    credentials = OutscaleCredentials(
        access_key=SecretStr(region.env["OSC_ACCESS_KEY"]),
        secret_key=SecretStr(region.env["OSC_SECRET_KEY"]),
        region=region.env["OSC_REGION"],
        endpoint=region.env["OSC_ENDPOINT_API"],
    )
    async with credentials.get_client() as client:
        (like,) = [image async for image in client.images(ImageFilters(image_names=["tiny"]))]
        request = ImageCreate(
            image_name=name, root_device_name=like.root_device_name, block_device_mappings=like.block_device_mappings
        )
        return (await client.create_image(request)).image_id


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.xdist_group("prefect-outscale")
def test_a_new_omi_that_a_filter_finds_rebuilds_omis(world: World, outscale: OutscaleRegion, tmp_path: Path) -> None:
    fleet = World(world.region, world.prefect, tmp_path / "omis")
    fleet.directory.mkdir()
    wanted = {"filters": {"image-name": "tiny*"}, "owners": ["self"], "most_recent": True}
    definitions: dict[str, dict[str, Any]] = {
        "omi-base": {"source_omi_filter": wanted, "omi_name": "base {{timestamp}} {{run_id}}"},
        "omi-web": {"builder": "outscale-chroot", "source": {"definition": "omi-base"}},
    }
    for name, definition in definitions.items():
        (fleet.directory / f"{name}.yaml").write_text(json.dumps(definition), encoding="utf-8")
    prefect = Prefect(world.prefect.api, {**world.prefect.env, **outscale.env})
    fleet = World(world.region, prefect, fleet.directory)
    fleet.command("flows.deploy", str(fleet.directory))
    fleet.command("flows.build_all", str(fleet.directory))
    before = {name: fleet.current(name) for name in definitions}
    assert before["omi-web"]["source_id"] == before["omi-base"]["id"]
    new = asyncio.run(publish_omi(outscale, "tiny-2"))

    argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "bakery"]
    with process(argv, tmp_path / "worker.log", prefect.env):
        said = fleet.command("flows.watch", *definitions)
        assert "its build is asked for" in said
        eventually(lambda: fleet.current("omi-web") != before["omi-web"], LONG, "the child is built")
    after = {name: fleet.current(name) for name in definitions}
    assert after["omi-base"]["source_id"] == new
    assert after["omi-web"]["source_id"] == after["omi-base"]["id"] != before["omi-base"]["id"]
    for name in definitions:
        runs = fleet.runs(name, "build-outscale-image")
        assert {run["created_by"]["type"] for run in runs} == {"AUTOMATION"}
