from __future__ import annotations

import asyncio
import base64
from ipaddress import IPv4Network
from typing import Any

import pytest

from emulators.machines import PowerOff
from emulators.oxide.region import Times
from tests.emulators.oxide.fakes import FakeMachines
from tests.emulators.oxide.kitchen import GIB, Client, Json, Kitchen, start_of, until


async def test_an_instance_is_made_with_its_disk_and_runs(client: Client) -> None:
    made = await client.instance()
    assert made["run_state"] in {"starting", "running"}
    await client.becomes(made, "running")
    disk = await client.get(f"/v1/disks/{made['boot_disk_id']}")
    assert disk["state"] == {"state": "attached", "instance": made["id"]}
    spec = client.machine(made).specs[0]
    assert spec.disks == (client.region.directory / "disks" / f"{disk['id']}.raw",)
    assert start_of(spec.disks[0]) == b"bootable"
    assert (spec.memory, spec.cpus) == (GIB, 1)


async def test_states_can_be_seen_while_the_rack_takes_its_time(kitchen: Kitchen) -> None:
    async with kitchen.open(times=Times(start=0.2, stop=0.2)) as client:
        made = await client.instance()
        assert made["run_state"] == "starting"
        await client.becomes(made, "running")
        stopping = await client.post(f"/v1/instances/{made['id']}/stop", status=202)
        assert stopping["run_state"] == "stopping"
        again = await client.post(f"/v1/instances/{made['id']}/start", status=409)
        assert again["error_code"] == "Conflict"
        await client.becomes(made, "stopped")


async def test_a_stop_during_the_start_never_shows_running(kitchen: Kitchen) -> None:
    async with kitchen.open(times=Times(start=0.1)) as client:
        made = await client.instance()
        await client.post(f"/v1/instances/{made['id']}/stop", status=202)
        await client.becomes(made, "stopped")
        machine = client.machines.made.get(made["id"])
        assert machine is None or not machine.is_on


@pytest.mark.parametrize("verb", ["start", "stop", "reboot"])
async def test_nothing_can_be_done_to_an_instance_that_is_being_made(client: Client, verb: str) -> None:
    client.machines.copying = asyncio.Event()
    name = client.name()
    making = asyncio.create_task(client.instance(name=name))

    async def look() -> Json | None:
        response = await client.http.get(f"/v1/instances/{name}", params={"project": "bakery"})
        return dict(response.json()) if response.status_code == 200 else None

    seen = await until(look)
    assert seen["run_state"] == "creating"
    await client.post(f"/v1/instances/{seen['id']}/{verb}", status=400)
    await client.delete(f"/v1/instances/{seen['id']}", status=400)
    client.machines.copying.set()
    await client.becomes(await making, "running")


async def test_a_stop_cuts_the_power(client: Client) -> None:
    made = await client.becomes(await client.instance(), "running")
    await client.post(f"/v1/instances/{made['id']}/stop", status=202)
    await client.becomes(made, "stopped")
    assert client.machine(made).how is PowerOff.BY_REGION
    again = await client.post(f"/v1/instances/{made['id']}/stop", status=202)
    assert again["run_state"] == "stopped"


async def test_a_guest_that_powers_itself_off_ends_as_stopped(client: Client) -> None:
    made = await client.becomes(await client.instance(), "running")
    client.machine(made).end(PowerOff.BY_GUEST)
    await client.becomes(made, "stopped")


async def test_a_crash_fails_the_instance_and_its_policy_decides_what_follows(kitchen: Kitchen) -> None:
    async with kitchen.open(times=Times(restart=0.05)) as client:
        never = await client.becomes(await client.instance(), "running")
        again = await client.becomes(await client.instance(auto_restart_policy=None), "running")
        client.machine(never).end(PowerOff.CRASHED)
        client.machine(again).end(PowerOff.CRASHED)
        await client.becomes(never, "failed")

        async def restarted() -> bool:
            return len(client.machine(again).specs) == 2

        await until(restarted)
        seen = await client.becomes(again, "running")
        assert seen["time_last_auto_restarted"] is not None
        stopped = await client.post(f"/v1/instances/{never['id']}/stop", status=202)
        assert stopped["run_state"] == "stopped"


async def test_a_machine_that_cannot_start_fails_the_instance(client: Client) -> None:
    made = await client.stopped()
    client.machines.machine(made["id"]).refuses = True
    await client.post(f"/v1/instances/{made['id']}/start", status=202)
    await client.becomes(made, "failed")


async def test_a_reboot_is_a_reset(client: Client) -> None:
    made = await client.becomes(await client.instance(), "running")
    await client.post(f"/v1/instances/{made['id']}/reboot", status=202)
    await client.becomes(made, "running")
    assert client.machine(made).resets == 1
    client.machine(made).end(PowerOff.BY_GUEST)
    await client.becomes(made, "stopped")
    await client.post(f"/v1/instances/{made['id']}/reboot", status=400)


async def test_delete_wants_it_off_and_leaves_the_disk(client: Client) -> None:
    made = await client.becomes(await client.instance(), "running")
    refused = await client.delete(f"/v1/instances/{made['id']}", status=400)
    assert refused["error_code"] == "InvalidRequest"
    await client.post(f"/v1/instances/{made['id']}/stop", status=202)
    await client.becomes(made, "stopped")
    await client.delete(f"/v1/instances/{made['id']}")
    await client.delete(f"/v1/instances/{made['id']}", status=404)
    disk = await client.get(f"/v1/disks/{made['boot_disk_id']}")
    assert disk["state"] == {"state": "detached"}
    await client.delete(f"/v1/disks/{disk['id']}")
    assert not list((client.region.directory / "disks").iterdir())
    assert not list((client.region.directory / "machines").iterdir())


async def test_each_address_is_its_own_and_comes_back(client: Client) -> None:
    async def address(instance: Json) -> str:
        page = await client.get(f"/v1/instances/{instance['id']}/external-ips")
        kinds = {ip["kind"]: ip["ip"] for ip in page["items"]}
        assert page["next_page"] is None
        assert kinds.keys() == {"snat", "ephemeral"}
        return str(kinds["ephemeral"])

    one, two = await client.stopped(), await client.stopped()
    assert await address(one) != await address(two)
    await client.post(f"/v1/instances/{one['id']}/start", status=202)
    await client.becomes(one, "running")
    assert client.machine(one).specs[0].address == await address(one)


async def test_addresses_run_out(kitchen: Kitchen) -> None:
    async with kitchen.open(network=IPv4Network("127.31.254.0/30")) as client:
        first = await client.stopped()
        refused = await client.instance(status=507)
        assert refused["error_code"] == "InsufficientCapacity"
        assert "No external IP addresses available" in refused["message"]
        assert len((await client.get("/v1/disks", project="bakery"))["items"]) == 1
        await client.delete(f"/v1/instances/{first['id']}")
        await client.stopped()


@pytest.mark.parametrize(("wanted", "keys"), [({}, 2), ({"ssh_public_keys": None}, 2), ({"ssh_public_keys": []}, 0)])
async def test_no_list_of_keys_means_all_and_an_empty_one_none(
    client: Client, wanted: dict[str, Any], keys: int
) -> None:
    for _ in range(2):
        await client.key()
    made = await client.becomes(await client.instance(**wanted), "running")
    assert len(client.machine(made).specs[0].cloud_init.public_keys) == keys


async def test_cloud_init_is_made_anew_at_each_start_without_keys_deleted_since(client: Client) -> None:
    kept, gone = await client.key(), await client.key()
    user_data = base64.b64encode(b"#!/bin/sh\n").decode()
    made = await client.instance(ssh_public_keys=[kept["id"], gone["name"]], user_data=user_data)
    await client.becomes(made, "running")
    await client.delete(f"/v1/me/ssh-keys/{gone['name']}")
    await client.post(f"/v1/instances/{made['id']}/stop", status=202)
    await client.becomes(made, "stopped")
    await client.post(f"/v1/instances/{made['id']}/start", status=202)
    await client.becomes(made, "running")
    first, second = (spec.cloud_init for spec in client.machine(made).specs)
    assert (len(first.public_keys), len(second.public_keys)) == (2, 1)
    assert second.user_data == b"#!/bin/sh\n"


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": GIB // 2},
        {"memory": GIB + 1},
        {"memory": 1537 * GIB},
        {"ncpus": 0},
        {"ncpus": 255},
        {"hostname": "-x"},
        {"user_data": "no base64!"},
        {"user_data": base64.b64encode(b"x" * 32769).decode()},
        {"disks": [{"type": "attach", "name": f"d{n}"} for n in range(12)]},
        {"ssh_public_keys": [f"k{n}" for n in range(101)]},
        {"external_ips": [{"type": "ephemeral"}, {"type": "ephemeral"}]},
        {"network_interfaces": {"type": "none"}},
    ],
)
async def test_what_is_beyond_the_limits_is_refused_and_leaves_nothing(client: Client, changes: dict[str, Any]) -> None:
    await client.instance(status=400, **changes)
    for path in ("instances", "disks"):
        assert (await client.get(f"/v1/{path}", project="bakery"))["items"] == []
    assert len(client.region.interfaces) == 0
    await client.stopped()


async def test_a_disk_that_cannot_be_copied_unwinds_the_instance(client: Client) -> None:
    client.machines.copy_error = OSError("disk full")
    reply = await client.instance(status=500)
    assert reply["error_code"] == "Internal"
    client.machines.copy_error = None
    for path in ("instances", "disks"):
        assert (await client.get(f"/v1/{path}", project="bakery"))["items"] == []


async def test_the_serial_console_is_there_only_while_it_runs(client: Client) -> None:
    made = await client.becomes(await client.instance(), "running")
    client.machine(made).console.written = b"0123456789"
    path = f"/v1/instances/{made['id']}/serial-console"
    assert await client.get(path, from_start=0) == {"data": list(b"0123456789"), "last_byte_offset": 10}
    assert await client.get(path, from_start=2, max_bytes=3) == {"data": list(b"234"), "last_byte_offset": 5}
    assert (await client.get(path, most_recent=4))["data"] == list(b"6789")
    assert (await client.get(path, from_start=99))["data"] == []
    assert (await client.http.get(path)).status_code == 400
    assert (await client.http.get(path, params={"from_start": 0, "most_recent": 1})).status_code == 400
    await client.post(f"/v1/instances/{made['id']}/stop", status=202)
    await client.becomes(made, "stopped")
    assert (await client.http.get(path, params={"from_start": 0})).status_code == 400


async def test_what_ran_is_settled_when_the_region_starts_again(kitchen: Kitchen) -> None:
    async with kitchen.open() as client:
        never = await client.becomes(await client.instance(), "running")
        again = await client.becomes(await client.instance(auto_restart_policy="best_effort"), "running")
        off = await client.stopped()
        machines = client.machines
    assert not any(machine.is_on for machine in machines.made.values())
    async with kitchen.open(FakeMachines()) as client:
        assert (await client.get(f"/v1/instances/{never['id']}"))["run_state"] == "failed"
        assert (await client.get(f"/v1/instances/{off['id']}"))["run_state"] == "stopped"
        await client.becomes(again, "running")


async def test_disks_come_and_go_while_it_is_off_but_for_the_boot_disk(client: Client) -> None:
    made = await client.stopped()
    blank = {"type": "distributed", "disk_source": {"type": "blank", "block_size": 512}}
    extra = {"name": "extra", "description": "", "size": GIB, "disk_backend": blank}
    await client.post("/v1/disks", extra, project="bakery")
    path = f"/v1/instances/{made['id']}/disks"
    await client.post(f"{path}/attach", {"disk": "extra"}, 202)
    assert len((await client.get(path))["items"]) == 2
    await client.delete("/v1/disks/extra", status=400, project="bakery")
    await client.post(f"{path}/detach", {"disk": made["boot_disk_id"]}, 409)
    await client.post(f"{path}/detach", {"disk": "extra"}, 202)
    await client.delete("/v1/disks/extra", project="bakery")
