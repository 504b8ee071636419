"""What the Packer plugin for the same job gets wrong, each with the test that shows that this builder does not."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import CannotConnect, DefinitionError, WaitExpired
from blocks.oxide.models import Instance
from blocks.settings import Settings
from tasks.communicator import read
from tasks.mark import Mark, provenance
from tasks.oxide.check import check_with_region
from tasks.oxide.ground import OxideGround
from tasks.oxide.images import register_image, snapshot_boot_disk
from tasks.oxide.instances import (
    connect,
    create_temporary_key,
    find_address,
    launch_instance,
    shut_down,
    wait_until_running,
)
from tasks.oxide.plan import Plan
from tasks.oxide.replacing import has_former
from tasks.oxide.room import Room
from tasks.oxide.run import OxideRun
from tasks.ssh.guest import SshGuest
from tasks.ssh.steps import LogIn, forget_temporary_key, prepare_log_in
from tasks.ssh.temporary_key import public_line
from tasks.teardown import tear_down
from tests.conftest import RegionInABox, Tune
from tests.tasks.oxide.support import a_run, a_snapshot, an_image, cleaned, launch, options, requests
from tests.tasks.support import LOG

HERE = "test_known_defects"
DEFECTS: dict[int, tuple[str, dict[str, list[str]]]] = {
    1: (
        "a start or stop that takes too long, or no external address: the build ends as if all were well",
        {
            HERE: [
                "test_an_instance_that_does_not_start_in_time_is_an_error",
                "test_an_instance_that_does_not_stop_in_time_is_an_error",
                "test_no_external_address_is_an_error",
            ]
        },
    ),
    2: (
        "force with no image to replace crashes at the end; a name that is taken is seen at the end",
        {
            HERE: ["test_force_with_nothing_to_replace"],
            "test_check": ["test_all_mistakes_come_at_once_and_nothing_is_made"],
        },
    ),
    3: (
        "force deletes the old image before there is a new one",
        {"test_replacing": ["test_a_kill_leaves_the_old_image_or_the_new_one"]},
    ),
    4: ("power is cut while the guest still has unwritten data", {HERE: ["test_the_guest_shuts_itself_down"]}),
    5: ("the temporary key stays in the image", {HERE: ["test_the_temporary_key_does_not_stay_in_the_guest"]}),
    6: (
        "what was made although its reply was lost stays behind",
        {HERE: ["test_what_was_made_although_its_reply_was_lost_is_found_again"]},
    ),
    7: (
        "one error in the clean-up, or 30 seconds, and the rest stays behind",
        {HERE: ["test_what_cannot_be_removed_does_not_keep_the_rest"]},
    ),
    8: (
        "no room is shown as a time-out, and `failed` is not recognised",
        {
            "test_starting": [
                "test_the_second_start_says_what_the_create_swallowed",
                "test_an_instance_that_failed",
                "test_an_instance_that_vanished",
            ]
        },
    ),
    9: (
        "builds of the same second have the same names; bad names are seen after the build began",
        {
            HERE: ["test_builds_of_the_same_second_have_names_of_their_own"],
            "test_check": ["test_names_that_are_too_long_once_they_are_rendered"],
        },
    ),
    10: (
        "no tries again, no console, no silo image, no other addresses, no disks; a key that nobody uses",
        {
            HERE: [
                "test_faults_that_pass_are_tried_again",
                "test_a_guest_that_lets_nobody_in_shows_its_console",
                "test_a_build_that_logs_in_nowhere_makes_no_key",
            ],
            "test_replacing": ["test_the_new_image_has_the_name_and_nothing_else_is_left"],
            "test_starting": ["test_a_floating_ip", "test_no_external_address", "test_extra_disks_go_with_the_build"],
        },
    ),
    11: ("three seconds of every wait are the poll's", {HERE: ["test_no_wait_has_a_fixed_pause"]}),
}


@pytest.mark.parametrize("number", DEFECTS)
def test_each_has_its_tests(number: int) -> None:
    _, tests = DEFECTS[number]
    for module, names in tests.items():
        there = importlib.import_module(f"tests.tasks.oxide.{module}")
        assert [name for name in names if not hasattr(there, name)] == []


@pytest.fixture
async def run(region: RegionInABox) -> AsyncIterator[OxideRun]:
    run = a_run(region)
    async with run.client:
        yield run


async def planned(run: OxideRun, region: RegionInABox, **given: Any) -> Plan:
    return await check_with_region.fn(run, options(region, **given), build_name="web", base=Path())


async def booted(run: OxideRun, region: RegionInABox) -> tuple[Instance, Plan, LogIn]:
    """An instance that runs, with the build's own key."""
    plan = await planned(run, region)
    log_in = await prepare_log_in.fn(run, options(region, ssh_port=region.ssh_port), Path(), run.token)
    assert log_in is not None
    assert log_in.key is not None
    key = await create_temporary_key.fn(run, plan.key_name, public_line(log_in.key))
    room = Room(0, LOG)
    instance = await launch_instance.fn(run, plan.launched_with(key, b""), room)
    return await wait_until_running.fn(run, instance, 60, room), plan, log_in


async def logged_in(run: OxideRun, region: RegionInABox) -> tuple[Instance, SshGuest, LogIn]:
    instance, plan, log_in = await booted(run, region)
    guest = log_in.guest_at(await find_address.fn(run, instance, plan))
    await connect.fn(run, guest, instance, 60)
    return instance, guest, log_in


async def test_an_instance_that_does_not_start_in_time_is_an_error(
    run: OxideRun, region: RegionInABox, tune: Tune
) -> None:
    tune(api_retry_time=0)
    instance = await launch(run.client, region, run.owned_name(), str(run.mark))
    await region.fault(operation="instance_view", kind="status", status=503, count=None)
    with pytest.raises(WaitExpired, match=r"not running after 0\.2 s"):
        await wait_until_running.fn(run, instance, 0.2, Room(0, LOG))


async def test_an_instance_that_does_not_stop_in_time_is_an_error(
    run: OxideRun, region: RegionInABox, tune: Tune
) -> None:
    tune(stop_timeout=0.2, api_retry_time=0)
    instance = await launch(run.client, region, run.owned_name(), str(run.mark))
    await region.fault(operation="instance_view", kind="status", status=503, count=None)
    with pytest.raises(WaitExpired, match=r"not stopped after 0\.2 s"):
        await shut_down.fn(run, None, instance, 0.2)


async def test_no_external_address_is_an_error(run: OxideRun, region: RegionInABox, tune: Tune) -> None:
    plan = await planned(run, region)
    instance = await launch(run.client, region, run.owned_name(), str(run.mark), start=False, external_ips=[])
    tune(api_timeout=0.2)
    with pytest.raises(WaitExpired, match="no external address"):
        await find_address.fn(run, instance, plan)


async def test_force_with_nothing_to_replace(run: OxideRun, region: RegionInABox) -> None:
    plan = await planned(run, region, artifact_name="web", force=True)
    assert plan.former is None
    assert not await has_former.fn(run, plan.image)
    made = await register_image.fn(run, plan.image, await a_snapshot(run, region))
    assert made.name == "web"


async def test_the_guest_shuts_itself_down(run: OxideRun, region: RegionInABox) -> None:
    instance, guest, _ = await logged_in(run, region)
    said: list[str] = []
    ask = guest.run

    async def listen(command: str, output: Any) -> int:
        said.append(command)
        return await ask(command, output)

    guest.run = listen  # type: ignore[method-assign]
    await shut_down.fn(run, guest, instance, 60)
    assert (await run.client.instance(instance.id)).run_state == "stopped"
    assert "instance_stop" not in await requests(region)
    flushed, off = (next(place for place, text in enumerate(said) if word in text) for word in ("sync", "poweroff"))
    assert flushed < off


async def test_the_temporary_key_does_not_stay_in_the_guest(run: OxideRun, region: RegionInABox) -> None:
    _, guest, log_in = await logged_in(run, region)
    with closing(guest):
        assert log_in.key is not None
        look = "cat /root/.ssh/authorized_keys 2>/dev/null; true"
        assert log_in.key.get_base64() in (await read(guest, look))[1]
        await forget_temporary_key.fn(run, guest, log_in.key)
        assert log_in.key.get_base64() not in (await read(guest, look))[1]


@pytest.mark.parametrize(
    "operation", ["current_user_ssh_key_create", "instance_create", "snapshot_create", "image_create"]
)
async def test_what_was_made_although_its_reply_was_lost_is_found_again(
    run: OxideRun, region: RegionInABox, operation: str
) -> None:
    await region.fault(operation=operation, kind="drop_after")
    plan = await planned(run, region, artifact_name="web")
    key = await create_temporary_key.fn(run, plan.key_name, "ssh-ed25519 AAAA")
    instance = await launch_instance.fn(run, plan.launched_with(key, b""), Room(0, LOG))
    snapshot = await snapshot_boot_disk.fn(run, instance)
    await register_image.fn(run, plan.image, snapshot)
    assert (await requests(region)).count(operation) == 1
    assert run.pending == set()
    (await cleaned(run, run.client)).raise_for_left()
    assert await region.names() == ["images/web"]


async def test_what_cannot_be_removed_does_not_keep_the_rest(run: OxideRun, region: RegionInABox, tune: Tune) -> None:
    await run.client.create_ssh_key("ours", str(run.mark), "ssh-ed25519 AAAA")
    await a_snapshot(run, region)
    await region.fault(operation="instance_delete", kind="status", status=403, count=None)
    tune(teardown_timeout=0.5)
    removal = await tear_down(OxideGround(run.client, run.project), run.lineage.owns, logger=LOG)
    assert {resource.kind for resource in removal.left} == {"instance", "disk"}
    left = [name for name in await region.names() if not name.startswith("network_interfaces/")]
    assert left == [f"disks/{run.owned_name()}", f"instances/{run.owned_name()}"]


async def test_builds_of_the_same_second_have_names_of_their_own(region: RegionInABox) -> None:
    async with region.client() as client:
        one, other = a_run(region, client=client), a_run(region, client=client)
        other.created = one.created = datetime.now(UTC)
        plans = [await planned(run, region, extra_disks=[{"name": "a", "size": "1GiB"}]) for run in (one, other)]
    names = [
        {plan.image.name, plan.key_name, plan.instance.name, plan.instance.boot_disk.name, plan.instance.disks[0].name}
        for plan in plans
    ]
    assert names[0] & names[1] == set()
    with pytest.raises(Exception, match="lower-case"):
        options(region, artifact_name="Web")


async def test_faults_that_pass_are_tried_again(run: OxideRun, region: RegionInABox) -> None:
    for operation, status in (("image_view", 429), ("project_view", 503), ("vpc_view", 500), ("instance_view", 502)):
        await region.fault(operation=operation, kind="status", status=status)
    plan = await planned(run, region)
    instance = await launch_instance.fn(run, plan, Room(0, LOG))
    assert (await wait_until_running.fn(run, instance, 60, Room(0, LOG))).run_state == "running"


async def test_a_guest_that_lets_nobody_in_shows_its_console(
    run: OxideRun, region: RegionInABox, caplog: pytest.LogCaptureFixture
) -> None:
    await region.fault(operation="instance_create", kind="never_boots")
    instance, plan, log_in = await booted(run, region)
    with closing(log_in.guest_at(await find_address.fn(run, instance, plan))) as guest, pytest.raises(CannotConnect):
        await connect.fn(run, guest, instance, 1)
    assert "serial console" in caplog.text
    asked = await requests(region)
    assert "instance_serial_console" in asked
    assert "instance_stop" not in asked


async def test_a_build_that_logs_in_nowhere_makes_no_key(run: OxideRun, region: RegionInABox) -> None:
    given = {"communicator": "none"}
    assert await prepare_log_in.fn(run, options(region, **given), Path(), run.token) is None
    plan = (await planned(run, region, **given)).launched_with(None, b"")
    assert plan.instance.ssh_public_keys == []  # and not left out, which would let in all of the user's


async def test_no_wait_has_a_fixed_pause(run: OxideRun, region: RegionInABox) -> None:
    assert Settings.model_fields["poll_first"].default <= 0.1
    instance = await launch(run.client, region, run.owned_name(), str(run.mark))
    await wait_until_running.fn(run, instance, 60, Room(0, LOG))
    before = (await requests(region)).count("instance_view")
    await wait_until_running.fn(run, instance, 60, Room(0, LOG))
    assert (await requests(region)).count("instance_view") == before + 1


async def test_a_taken_name_is_told_before_anything_is_made(run: OxideRun, region: RegionInABox) -> None:
    async with region.client() as client:
        other = a_run(region, client=client)
        snapshot = await a_snapshot(other, region)
        await an_image(client, region.project, "web", snapshot, description=f"x {provenance(other.id)}")
    with pytest.raises(DefinitionError, match="artifact_name"):
        await planned(run, region, artifact_name="web")
    async with region.client() as client:
        found = [one async for one in OxideGround(client, region.project).owned()]
    assert {one.mark for one in found} == {Mark.parse(str(other.mark))}
