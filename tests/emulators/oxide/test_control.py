"""What only an Oxide region's control endpoint can do: times, machines' behaviour, failures at will."""

from __future__ import annotations

from typing import Any

import pytest

from emulators.oxide.region import Times
from tests.emulators.oxide.kitchen import Client, Kitchen


async def test_times_can_be_set_while_it_serves(client: Client) -> None:
    await client.told("/settings", {"times": {"stop": 0.2}}, "PATCH")
    made = await client.becomes(await client.instance(), "running")
    stopping = await client.post(f"/v1/instances/{made['id']}/stop", status=202)
    assert stopping["run_state"] == "stopping"
    await client.becomes(made, "stopped")
    assert (await client.told("/settings", method="GET"))["times"]["stop"] == 0.2


async def test_machines_are_told_what_holds_for_all_and_what_holds_for_one(client: Client) -> None:
    await client.told("/settings", {"behaviour": {"boot_seconds": 2, "ssh_refuses": 1}}, "PATCH")
    made = await client.becomes(await client.instance(), "running")
    assert client.machine(made).specs[0].behaviour == {"boot_seconds": 2, "ssh_refuses": 1}
    await client.told(f"/instances/{made['id']}", {"behaviour": {"boot_seconds": 5}}, "PATCH")
    await client.told("/settings", {"behaviour": {"ssh_refuses": None}}, "PATCH")
    await client.post(f"/v1/instances/{made['id']}/stop", status=202)
    await client.becomes(made, "stopped")
    await client.post(f"/v1/instances/{made['id']}/start", status=202)
    await client.becomes(made, "running")
    assert client.machine(made).specs[1].behaviour == {"boot_seconds": 5}


@pytest.mark.parametrize(
    ("path", "body", "method"),
    [
        ("/settings", {"times": {"stop": -1}}, "PATCH"),
        ("/settings", {"times": {"stopp": 1}}, "PATCH"),
        ("/settings", {"behaviour": {"no_such": 1}}, "PATCH"),
        ("/pools", {"name": "p", "network": "nonsense", "silos": {}}, "POST"),
        ("/users", {"silo": "box", "name": "Upper"}, "POST"),
        ("/users", {"silo": "box", "name": "baker"}, "POST"),
    ],
)
async def test_nonsense_is_refused_and_changes_nothing(client: Client, path: str, body: Any, method: str) -> None:
    before = await client.told("/settings", method="GET")
    assert (await client.control.request(method, path, json=body)).status_code == 400
    assert await client.told("/settings", method="GET") == before


async def test_what_is_not_there_is_a_404(client: Client) -> None:
    for path in ("/instances/x/fail", "/disks/x/fault"):
        assert (await client.control.post(path)).status_code == 404


async def test_an_instance_can_fail_at_will_and_is_restarted_unless_it_is_never_to_be(kitchen: Kitchen) -> None:
    async with kitchen.open(times=Times(restart=0.1, restart_cooldown=3600)) as client:
        never = await client.becomes(await client.instance(), "running")
        again = await client.becomes(await client.instance(auto_restart_policy="best_effort"), "running")
        assert (never["auto_restart_enabled"], again["auto_restart_enabled"]) == (False, True)
        assert again["auto_restart_cooldown_expiration"] is None
        await client.told(f"/instances/{again['id']}/fail")
        back = await client.becomes(again, "running")
        assert back["time_last_auto_restarted"] < back["auto_restart_cooldown_expiration"]
        for instance in (never, again):
            assert await client.told(f"/instances/{instance['id']}/fail") == {"state": "failed"}
        # Within the cool-down nothing restarts it.
        await client.post(f"/v1/instances/{never['id']}/reboot", status=400)
        for instance in (never, again):
            assert (await client.get(f"/v1/instances/{instance['id']}"))["run_state"] == "failed"
        stopped = await client.post(f"/v1/instances/{never['id']}/stop", status=202)
        assert stopped["run_state"] == "stopped"
        await client.delete(f"/v1/instances/{again['id']}")


async def test_a_disk_can_fault_at_will(client: Client) -> None:
    made = await client.stopped()
    await client.told(f"/disks/{made['boot_disk_id']}/fault")
    assert (await client.get(f"/v1/disks/{made['boot_disk_id']}"))["state"] == {"state": "faulted"}
    body = {"name": "s", "description": "", "disk": made["boot_disk_id"]}
    assert (await client.post("/v1/snapshots", body, 503, project="bakery"))["error_code"] == "ServiceNotAvailable"


async def test_the_inventory_names_silos_users_and_pools(client: Client) -> None:
    operator = (await client.control.get("/inventory")).json()["operator"]
    assert [[entry["name"] for entry in operator[kind]] for kind in ("silos", "users", "ip_pools")] == [
        ["box"], ["baker"], ["default"],
    ]  # fmt: skip


async def test_an_instance_changes_its_size_only_while_it_is_off(client: Client) -> None:
    made = await client.becomes(await client.instance(), "running")
    body = {
        "ncpus": 2, "memory": 2 << 30, "boot_disk": made["boot_disk_id"], "auto_restart_policy": "best_effort",
        "cpu_platform": None, "enable_jumbo_frames": False,
    }  # fmt: skip
    path = f"/v1/instances/{made['id']}"
    assert (await client.put(path, body, 409))["error_code"] == "Conflict"
    kept = await client.put(path, {**body, "ncpus": 1, "memory": 1 << 30})
    assert kept["auto_restart_policy"] == "best_effort"
    await client.post(f"{path}/stop", status=202)
    await client.becomes(made, "stopped")
    changed = await client.put(path, body)
    assert (changed["ncpus"], changed["memory"]) == (2, 2 << 30)
    assert (await client.put(path, {**body, "boot_disk": None}))["boot_disk_id"] is None
