"""Pools, external addresses, network interfaces, anti-affinity groups."""

from __future__ import annotations

from typing import Any

import pytest

from emulators.region.addresses import random_network
from tests.emulators.oxide.kitchen import Client

AUTO = {"ip": {"type": "auto"}, "transit_ips": []}


def _small_pool() -> str:
    """A network with one address to give."""
    return f"{random_network()[0]}/30"


async def _floating(client: Client, name: str = "f", status: int = 201, **allocator: Any) -> dict[str, Any]:
    body = {"name": name, "description": ""} | ({"address_allocator": allocator} if allocator else {})
    return await client.post("/v1/floating-ips", body, status, project="bakery")


async def _ips(client: Client, instance: dict[str, Any]) -> list[dict[str, Any]]:
    return list((await client.get(f"/v1/instances/{instance['id']}/external-ips"))["items"])


async def test_a_floating_ip_is_given_at_create_and_comes_back(client: Client) -> None:
    floating = await _floating(client)
    assert floating["instance_id"] is None
    made = await client.instance(external_ips=[{"type": "ephemeral"}, {"type": "floating", "floating_ip": "f"}])
    await client.becomes(made, "running")
    snat, ephemeral, held = await _ips(client, made)
    assert (snat["kind"], ephemeral["kind"], held["kind"]) == ("snat", "ephemeral", "floating")
    assert (held["ip"], held["id"], held["instance_id"]) == (floating["ip"], floating["id"], made["id"])
    assert client.machine(made).specs[0].addresses == (ephemeral["ip"], floating["ip"])
    taken = await client.instance(status=400, external_ips=[{"type": "floating", "floating_ip": floating["id"]}])
    assert taken["error_code"] == "InvalidRequest"
    await client.delete(f"/v1/floating-ips/{floating['id']}", status=400)
    await client.post(f"/v1/instances/{made['id']}/stop", status=202)
    await client.becomes(made, "stopped")
    await client.delete(f"/v1/instances/{made['id']}")
    assert (await client.get("/v1/floating-ips/f", project="bakery"))["instance_id"] is None
    renamed = await client.put(f"/v1/floating-ips/{floating['id']}", {"name": "g", "description": None})
    assert renamed["name"] == "g"
    await client.delete("/v1/floating-ips/g", project="bakery")


async def test_a_floating_ip_alone_is_where_the_guest_answers(client: Client) -> None:
    floating = await _floating(client)
    made = await client.instance(external_ips=[{"type": "floating", "floating_ip": floating["id"]}])
    await client.becomes(made, "running")
    assert client.machine(made).specs[0].address == floating["ip"]


async def test_an_address_can_be_asked_for_by_itself(client: Client) -> None:
    wanted = str(random_network()[0] + 77)
    refused = await _floating(client, status=400, type="explicit", ip=wanted)
    assert refused["error_code"] == "InvalidRequest"
    await client.told("/pools", {"name": "own", "network": f"{wanted}/32", "silos": {"box": False}})
    assert (await _floating(client, type="explicit", ip=wanted))["ip"] == wanted
    assert (await _floating(client, "g", 400, type="explicit", ip=wanted))["error_code"] == "InvalidRequest"


async def test_a_pool_is_chosen_by_name_and_can_be_exhausted(client: Client) -> None:
    network = _small_pool()
    pool = await client.told("/pools", {"name": "small", "network": network, "silos": {"box": False}})
    listed = (await client.get("/v1/ip-pools"))["items"]
    assert [(p["name"], p["is_default"]) for p in listed] == [("default", True), ("small", False)]
    wanted = [{"type": "ephemeral", "pool_selector": {"type": "explicit", "pool": "small"}}]
    first = await client.stopped(external_ips=wanted)
    assert (await _ips(client, first))[1]["ip_pool_id"] == pool["id"]
    refused = await client.instance(status=507, external_ips=wanted)
    assert refused["message"] == "Insufficient capacity: No external IP addresses available"
    assert (await _floating(client, status=507, type="auto", pool_selector=wanted[0]["pool_selector"]))["error_code"]
    assert [i["id"] for i in (await client.get("/v1/instances", project="bakery"))["items"]] == [first["id"]]
    await client.delete(f"/v1/instances/{first['id']}")
    await client.stopped(external_ips=wanted)
    missing = [{"type": "ephemeral", "pool_selector": {"type": "explicit", "pool": "none"}}]
    assert (await client.instance(status=404, external_ips=missing))["error_code"] == "ObjectNotFound"


async def test_ipv6_pools_give_addresses_of_their_own(client: Client) -> None:
    auto_v6 = {"type": "ephemeral", "pool_selector": {"type": "auto", "ip_version": "v6"}}
    assert (await client.instance(status=404, external_ips=[auto_v6]))["error_code"] == "ObjectNotFound"
    await client.told("/pools", {"name": "six", "network": "fd99::/64", "silos": {"box": True}})
    # With two defaults, one must be chosen.
    assert (await client.instance(status=400, external_ips=[{"type": "ephemeral"}]))["error_code"] == "InvalidRequest"
    auto_v4 = {"type": "ephemeral", "pool_selector": {"type": "auto", "ip_version": "v4"}}
    made = await client.stopped(external_ips=[auto_v4, auto_v6])
    four, six = (await _ips(client, made))[1:]
    assert six["ip"].startswith("fd99::")
    path = f"/v1/instances/{made['id']}/external-ips/ephemeral"
    await client.delete(path, status=400)
    await client.delete(path, ip_version="v6")
    assert [ip["ip"] for ip in await _ips(client, made)][1:] == [four["ip"]]
    assert (await client.post(path, {"pool_selector": auto_v6["pool_selector"]}, 202))["kind"] == "ephemeral"
    await client.post(path, {"pool_selector": auto_v4["pool_selector"]}, 400)


async def test_interfaces_are_of_either_ip_version_or_both(client: Client) -> None:
    def nic(name: str, **config: Any) -> dict[str, Any]:
        return {"name": name, "description": "", "vpc_name": "default", "subnet_name": "default"} | (
            {"ip_config": config} if config else {}
        )

    wanted = [
        nic(
            "four", type="v4", value={"ip": {"type": "explicit", "value": "172.30.0.77"}, "transit_ips": ["10.1.2.3/8"]}
        ),
        nic("six", type="v6", value=AUTO),
        nic("both", type="dual_stack", value={"v4": AUTO, "v6": AUTO}),
        nic("default"),
    ]
    made = await client.stopped(network_interfaces={"type": "create", "params": wanted})
    query = {"instance": made["id"]}
    nics = {n["name"]: n for n in (await client.get("/v1/network-interfaces", **query))["items"]}
    assert {name: n["ip_stack"]["type"] for name, n in nics.items()} == {
        "four": "v4", "six": "v6", "both": "dual_stack", "default": "dual_stack",
    }  # fmt: skip
    assert nics["four"]["ip_stack"]["value"] == {"ip": "172.30.0.77", "transit_ips": ["10.0.0.0/8"]}
    assert [n["name"] for n in nics.values() if n["primary"]] == ["four"]
    taken = nic("x", type="v4", value={"ip": {"type": "explicit", "value": "172.30.0.77"}})
    assert (await client.post("/v1/network-interfaces", taken, 400, **query))["error_code"] == "InvalidRequest"
    added = await client.post("/v1/network-interfaces", nic("added"), **query)
    changed = await client.put(
        f"/v1/network-interfaces/{added['id']}", {"name": "first", "primary": True, "transit_ips": ["fd00::/8"]}
    )
    assert (changed["primary"], changed["ip_stack"]["value"]["v6"]["transit_ips"]) == (True, ["fd00::/8"])
    await client.delete(f"/v1/network-interfaces/{added['id']}", status=400)
    await client.delete(f"/v1/network-interfaces/{nics['four']['id']}")
    await client.post(f"/v1/instances/{made['id']}/start", status=202)
    await client.becomes(made, "running")
    refused = await client.post("/v1/network-interfaces", nic("late"), 400, **query)
    assert "must be stopped" in refused["message"]


@pytest.mark.parametrize(("kind", "stack"), [("default_ipv4", "v4"), ("default_ipv6", "v6")])
async def test_default_interfaces(client: Client, kind: str, stack: str) -> None:
    made = await client.stopped(network_interfaces={"type": kind}, external_ips=[])
    (nic,) = (await client.get("/v1/network-interfaces", instance=made["id"]))["items"]
    assert (nic["name"], nic["ip_stack"]["type"]) == ("net0", stack)


async def test_nine_interfaces_are_too_many_and_none_is_no_list(client: Client) -> None:
    nics = [{"name": f"n{n}", "description": "", "vpc_name": "default", "subnet_name": "default"} for n in range(9)]
    await client.instance(status=400, network_interfaces={"type": "create", "params": nics})
    await client.instance(status=400, network_interfaces={"type": "create", "params": []})
    assert client.region.private_ips == set()


async def test_members_of_a_group_that_insists_need_sleds_of_their_own(client: Client) -> None:
    await client.told("/settings", {"sleds": 1}, "PATCH")
    body = {"name": "g", "description": "", "policy": "fail", "failure_domain": "sled"}
    await client.post("/v1/anti-affinity-groups", body, project="bakery")
    first = await client.becomes(await client.instance(anti_affinity_groups=["g"]), "running")
    second = await client.instance(anti_affinity_groups=["g"])
    assert second["run_state"] == "stopped"
    refused = await client.post(f"/v1/instances/{second['id']}/start", status=507)
    assert "No sleds can fit the requested instance" in refused["message"]
    members = (await client.get("/v1/anti-affinity-groups/g/members", project="bakery"))["items"]
    assert {m["value"]["id"] for m in members} == {first["id"], second["id"]}
    member = f"/v1/anti-affinity-groups/g/members/instance/{second['name']}"
    assert (await client.get(member, project="bakery"))["value"]["run_state"] == "stopped"
    await client.delete(member, project="bakery")
    await client.post(f"/v1/instances/{second['id']}/start", status=202)
    await client.becomes(second, "running")
    await client.post(member, status=201, project="bakery")
    await client.put("/v1/anti-affinity-groups/g", {"description": "new"}, project="bakery")
    assert (await client.instance(status=404, anti_affinity_groups=["none"]))["error_code"] == "ObjectNotFound"
    await client.post(f"/v1/instances/{first['id']}/stop", status=202)
    await client.becomes(first, "stopped")
    await client.delete(f"/v1/instances/{first['id']}")
    assert len((await client.get("/v1/anti-affinity-groups/g/members", project="bakery"))["items"]) == 1
