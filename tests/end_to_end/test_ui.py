"""A build by hand in Prefect's UI, as a person does it: the form, the run, the build page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.browser import browser, field, picture, submit, unfold, write
from tests.end_to_end.world import ROOT, OxideRegion, Prefect, eventually, process, save_oxide_block, write_definition

BLOCK = "rack-of-the-form"
_FLEET = """
import asyncio, json, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4
from prefect.client.orchestration import get_client
from flows.fleet.definitions import read_fleet
from flows.fleet.infrastructure import register
from flows.fleet.register import deploy, wanted
from flows.fleet_page import fleet_page
from tasks.current_image import GoodImage, write_current

async def main(directory, image):
    definitions = read_fleet(directory)
    built = datetime.now(UTC) - timedelta(days=3)
    about = {"builder": "oxide-instance", "place": "project bakery", "digest": "", "built_at": built, "run": uuid4()}
    async with get_client() as client:
        await register(client, definitions)
        for wish in wanted(definitions, directory):
            print(await deploy(client, wish, root=Path.cwd(), pull=[], version=""))
    for name, source in (("base", image), ("shop", "an-older-one")):
        await write_current(
            GoodImage(definition=name, id=image, name=f"{name}-1795343361", source_id=source, **about)
        )
    await fleet_page()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


def ui_of(prefect: Prefect) -> str:
    """The UI that a browser is sent to which has no other wish."""
    return f"{prefect.api.removesuffix('/api')}/v2"


def give_block(region: OxideRegion, prefect: Prefect) -> str:
    """Put the region's credentials on the server; returns the secret in them."""
    token = Path(region.ready["token_file"]).read_text(encoding="utf-8").strip()
    save_oxide_block(prefect, BLOCK, region.ready["api"], token)
    return token


def run_python(prefect: Prefect, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        env=dict(prefect.env), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(290)
@pytest.mark.xdist_group("prefect")
def test_a_person_bakes_an_image(cheap_region: OxideRegion, deployed: Prefect, tmp_path: Path) -> None:
    ready = cheap_region.ready
    token = give_block(cheap_region, deployed)
    blocks = deployed.request("POST", "/block_documents/filter", {})
    block = next(each["id"] for each in blocks if each["name"] == BLOCK)
    deployment = deployed.request("GET", "/deployments/name/build-oxide-image/by-hand")["id"]
    ui = ui_of(deployed)

    with browser(tmp_path) as page:
        page.goto(f"{ui}/deployments/deployment/{deployment}/run")
        write(page, "Build name", "web")
        write(page, "Source image", "tiny")
        write(page, "Project", ready["project"])
        field(page, "Credentials").get_by_role("button", name="Select a block").click()
        page.get_by_role("option", name=BLOCK).click()
        write(page, "SSH user", "root")
        picture(page, "form", height=1300)
        field(page, "Provisioners").get_by_role("button", name="Add item").click()
        write(field(page, "Provisioners"), "Name", "greeting")
        field(field(page, "Provisioners"), "Commands").get_by_role("button", name="Add item").click()
        field(field(page, "Provisioners"), "Commands").locator("textarea").fill("echo hello from a form > /hello")
        instance = unfold(page, "Instance")
        write(instance, "Memory", "1GiB")
        write(instance, "Boot disk size", "1GiB")
        ssh = unfold(page, "SSH")
        write(ssh, "SSH port", str(ready["ssh_port"]))
        write(ssh, "SSH time-out", "2m")
        run = submit(page)["id"]
        # Its message with the button "View run" is gone after some seconds, seen or not.
        page.goto(f"{ui}/runs/flow-run/{run}")

        typed: dict[str, Any] = {
            "build_name": "web",
            "boot_disk_image_id": "tiny",
            "project": ready["project"],
            "credentials": {"$ref": {"block_document_id": block}},
            "ssh_username": "root",
            "provisioners": [{"type": "shell", "name": "greeting", "inline": ["echo hello from a form > /hello"]}],
            "instance": {"memory": "1GiB", "boot_disk_size": "1GiB"},
            # With the switches that are on in that section.
            "ssh": {
                "ssh_port": ready["ssh_port"],
                "ssh_timeout": "2m",
                "ssh_disable_agent_forwarding": True,
                "ssh_clear_authorized_keys": True,
            },
        }
        parameters = deployed.request("GET", f"/flow_runs/{run}")["parameters"]
        assert {name: value for name, value in parameters.items() if value is not None} == {"build": typed}

        # Only now: a worker of the tests asks every second, each time something is written, and the form is refused.
        worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "bakery"]
        with process(worker, tmp_path / "worker.log", deployed.env):
            eventually(lambda: deployed.state(run) in ("COMPLETED", "FAILED", "CRASHED"), 150, "the run is through")
        assert deployed.state(run) == "COMPLETED", deployed.log(run)
        page.get_by_text("Completed", exact=True).first.wait_for()
        picture(page, "run")
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("oxide-instance-web").first.click()
        page.get_by_role("link", name=re.compile("^[0-9a-f]{8}$")).first.click()  # its versions: this is the first
        page.get_by_role("heading", name="Image web").wait_for()
        page.get_by_role("cell", name="greeting").first.wait_for()
        picture(page, "build-page", height=1300)
    assert set(cheap_region.made()) == {"images"}
    assert token not in str(parameters) + deployed.log_with(run, "Baked image ")


@pytest.mark.slow
@pytest.mark.timeout(290)
@pytest.mark.xdist_group("prefect")
def test_a_person_sees_how_the_fleet_is_doing(cheap_region: OxideRegion, prefect: Prefect, tmp_path: Path) -> None:
    prefect.forget_fleet()
    fleet = tmp_path / "fleet"
    fleet.mkdir()
    options = cheap_region.definition()
    del options["build_name"]
    write_definition(fleet / "base.yaml", {**options, "deployment": {"schedule": {"cron": "0 3 * * 1"}}})
    for name in ("kiosk", "shop"):
        write_definition(fleet / f"{name}.yaml", options)
    # Any image that is there will do for one that was made.
    image = cheap_region.inventory()["images"][0]["id"]
    try:
        run_python(prefect, "-c", _FLEET, str(fleet), image)
        (kept,) = prefect.request("POST", "/artifacts/latest/filter", {"artifacts": {"key": {"any_": ["fleet"]}}})
        with browser(tmp_path) as page:
            page.goto(f"{ui_of(prefect)}/artifacts/artifact/{kept['latest_id']}")
            page.get_by_text("1 of 3 definitions are current").first.wait_for()
            page.get_by_role("row", name="base").get_by_text("✓ current").wait_for()
            page.get_by_role("row", name="shop").get_by_text("its source is another now").wait_for()
            page.get_by_role("row", name="kiosk").get_by_text("it has no image").wait_for()
            picture(page, "fleet-page", height=720)
    finally:  # the server is that of other tests, too
        prefect.forget_fleet()
