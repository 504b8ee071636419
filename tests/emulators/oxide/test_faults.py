"""Faults, through the control endpoint of a real server."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.emulators.oxide.kitchen import Client, start_of


async def test_a_status_fault_strikes_as_often_as_it_was_told(client: Client) -> None:
    await client.fault(
        operation="current_user_view", kind="status", status=429, retry_after=2, count=2, skip=1, message="slow"
    )
    replies = [await client.http.get("/v1/me") for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, 429, 429, 200]
    assert replies[1].headers["retry-after"] == "2"
    assert replies[1].json()["message"] == "slow"
    told = (await client.control.get("/faults")).json()["faults"][0]
    assert (told["seen"], told["fired"]) == (4, 2)


async def test_a_connection_dropped_before_does_nothing(client: Client) -> None:
    await client.fault(operation="project_create", kind="drop_before")
    body = {"name": "p", "description": "lost"}
    with pytest.raises(httpx.TransportError):
        await client.http.post("/v1/projects", json=body)
    assert (await client.http.get("/v1/projects/p")).status_code == 404
    await client.post("/v1/projects", body)


async def test_a_connection_dropped_after_has_done_it(client: Client) -> None:
    await client.fault(operation="project_create", kind="drop_after")
    with pytest.raises(httpx.TransportError):
        await client.http.post("/v1/projects", json={"name": "p", "description": "lost"})
    assert (await client.get("/v1/projects/p"))["description"] == "lost"
    log = (await client.control.get("/requests")).json()["requests"]
    assert (log[0]["operation"], log[0]["status"]) == ("project_create", 0)


async def test_a_hang_lasts_longer_than_the_client_waits(client: Client) -> None:
    await client.fault(operation="ping", kind="hang", seconds=30)
    with pytest.raises(httpx.ReadTimeout):
        await client.http.get("/v1/ping", timeout=0.2)
    assert await client.get("/v1/ping") == {"status": "ok"}


async def test_latency_delays_the_reply(client: Client) -> None:
    await client.fault(operation="*", kind="latency", seconds=0.3)
    with pytest.raises(httpx.ReadTimeout):
        await client.http.get("/v1/ping", timeout=0.1)


async def test_want_of_capacity_shows_on_start_and_on_create(client: Client) -> None:
    await client.fault(operation="instance_*", kind="capacity", count=2)
    assert (await client.instance(status=507))["error_code"] == "InsufficientCapacity"
    made = await client.post("/v1/projects", {"name": "untouched", "description": ""})
    assert made["name"] == "untouched"
    # The next matching operation is whichever instance operation comes first.
    assert (await client.instance(status=507))["error_code"] == "InsufficientCapacity"
    assert (await client.get("/v1/disks", project="bakery"))["items"] == []
    stopped = await client.stopped()
    await client.fault(operation="instance_start", kind="capacity")
    reply = await client.post(f"/v1/instances/{stopped['id']}/start", status=507)
    assert reply["error_code"] == "InsufficientCapacity"
    await client.post(f"/v1/instances/{stopped['id']}/start", status=202)
    await client.becomes(stopped, "running")


async def test_a_start_that_fails_is_swallowed_by_the_create(client: Client) -> None:
    await client.fault(operation="instance_create", kind="start_fails")
    assert (await client.instance())["run_state"] == "stopped"


async def test_an_instance_fails_after_its_start(client: Client) -> None:
    await client.fault(operation="instance_create", kind="instance_failed")
    await client.becomes(await client.instance(), "failed")


async def test_faults_can_be_aimed_at_one_name_and_reach_the_machine(client: Client) -> None:
    await client.fault(operation="instance_create", kind="never_boots", name="bad-*")
    good = await client.becomes(await client.instance(name="good-1"), "running")
    bad = await client.becomes(await client.instance(name="bad-1"), "running")
    assert client.machine(good).specs[0].behaviour == {}
    assert client.machine(bad).specs[0].behaviour == {"never_boots": True}


async def test_a_faulted_disk_can_only_be_deleted(client: Client) -> None:
    await client.fault(operation="instance_create", kind="disk_faulted")
    assert (await client.instance(status=500))["error_code"] == "Internal"
    assert (await client.get("/v1/instances", project="bakery"))["items"] == []
    (disk,) = (await client.get("/v1/disks", project="bakery"))["items"]
    assert disk["state"] == {"state": "faulted"}
    await client.delete(f"/v1/disks/{disk['id']}")


async def test_an_unknown_kind_is_refused_and_faults_can_be_cleared(client: Client) -> None:
    assert (await client.control.post("/faults", json={"kind": "nonsense"})).status_code == 400
    fault = await client.fault(kind="status", status=500, count=None)
    await client.fault(kind="status", status=500)
    assert (await client.control.delete(f"/faults/{fault['id']}")).status_code == 204
    assert (await client.control.delete("/faults")).status_code == 204
    assert (await client.control.get("/faults")).json() == {"faults": []}
    assert await client.get("/v1/ping") == {"status": "ok"}


async def test_the_log_numbers_requests_and_never_holds_the_token(client: Client) -> None:
    await client.get("/v1/me")
    last = (await client.control.get("/requests")).json()["last"]
    await client.stopped(name="logged")
    found = (await client.control.get("/requests", params={"since": last})).json()
    created = found["requests"][-1]
    assert (created["operation"], created["name"], created["description"], created["status"]) == (
        "instance_create",
        "logged",
        "of a test",
        201,
    )
    assert [r["n"] for r in found["requests"]] == list(range(last + 1, found["last"] + 1))
    assert client.region.token not in (await client.control.get("/requests")).text


async def test_the_inventory_has_everything_with_its_disk_files(client: Client) -> None:
    await client.key()
    await client.made_image(project="bakery")
    found = (await client.control.get("/inventory")).json()
    assert found["machines"] == "fake"
    resources = found["resources"]
    assert [len(resources[kind]) for kind in ("instances", "disks", "snapshots", "images", "ssh_keys")] == [
        1, 1, 1, 2, 1,
    ]  # fmt: skip
    for kind in ("disks", "snapshots", "images"):
        for entry in resources[kind]:
            assert entry.keys() >= {"id", "name", "description", "project", "state"}
            assert start_of(Path(entry["path"])) == b"bootable"
    assert resources["instances"][0]["state"] == "stopped"
    assert resources["instances"][0]["project"] == "bakery"


@pytest.mark.parametrize(
    ("operation", "more", "says"),
    [
        ("disk_create", {}, "Storage Limit Exceeded"),
        ("instance_create", {"what": "addresses"}, "No external IP addresses available"),
        ("instance_create", {"what": "cpus"}, "vCPU Limit Exceeded"),
    ],
)
async def test_what_is_exhausted_can_be_said(client: Client, operation: str, more: dict[str, str], says: str) -> None:
    await client.fault(operation=operation, kind="capacity", **more)
    make = client.disk if operation == "disk_create" else client.instance
    refused = await make(status=507)
    assert says in refused["message"]
    await make()


async def test_a_start_can_fail_without_a_word(client: Client) -> None:
    stopped = await client.stopped()
    await client.fault(operation="instance_start", kind="start_fails")
    assert (await client.post(f"/v1/instances/{stopped['id']}/start", status=202))["run_state"] == "stopped"
    await client.post(f"/v1/instances/{stopped['id']}/start", status=202)
    await client.becomes(stopped, "running")


async def test_an_instance_can_fail_some_time_after_its_start(client: Client) -> None:
    await client.fault(operation="instance_create", kind="instance_failed", seconds=0.3)
    made = await client.becomes(await client.instance(), "running")
    await client.becomes(made, "failed")
    assert not client.machine(made).is_on


async def test_throttling_comes_with_and_without_a_word_when_to_come_back(client: Client) -> None:
    await client.fault(operation="ping", kind="status", status=429)
    await client.fault(operation="ping", kind="status", status=429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT", skip=1)
    first, second = [await client.http.get("/v1/ping") for _ in range(2)]
    assert "retry-after" not in first.headers
    assert second.headers["retry-after"] == "Wed, 21 Oct 2026 07:28:00 GMT"
