"""Users, silos, quotas and tokens."""

from __future__ import annotations

import asyncio

import pytest

from emulators.oxide.records import Role
from tests.emulators.oxide.kitchen import GIB, Client, Kitchen

CLIENT_ID = "1b7a4d0c-7c1f-4a57-9d0a-2f2f0f2f0f2f"
GRANT = "urn:ietf:params:oauth:grant-type:device_code"


async def test_silos_do_not_see_each_other(client: Client) -> None:
    image = await client.made_image()
    instance = await client.stopped()
    key = await client.key()
    async with client.user("other", "anna") as anna:
        me = await anna.get("/v1/me")
        assert (me["silo_name"], me["display_name"], me["silo_admin"]) == ("other", "anna", False)
        for path in ("/v1/projects", "/v1/images", "/v1/me/ssh-keys"):
            assert (await anna.get(path))["items"] == []
        for path in (f"images/{image['id']}", f"instances/{instance['id']}", f"me/ssh-keys/{key['id']}"):
            assert (await anna.http.get(f"/v1/{path}")).status_code == 404
        # The same names are free here.
        await anna.post("/v1/projects", {"name": "bakery", "description": ""})
        assert (await anna.get("/v1/instances", project="bakery"))["items"] == []
        assert (await anna.get("/v1/ip-pools"))["items"][0]["is_default"] is True


async def test_keys_are_the_user_s_and_projects_the_silo_s(client: Client) -> None:
    await client.key()
    async with client.user("box", "anna") as anna:
        assert (await anna.get("/v1/me/ssh-keys"))["items"] == []
        made = await anna.becomes(await anna.instance(), "running")
        assert anna.machine(made).specs[0].cloud_init.public_keys == ()
        assert (await client.get(f"/v1/instances/{made['id']}"))["name"] == made["name"]


async def test_a_viewer_looks_and_has_keys_and_no_more(client: Client) -> None:
    async with client.user("box", "vera", "viewer") as vera:
        assert [p["name"] for p in (await vera.get("/v1/projects"))["items"]] == ["bakery"]
        await vera.key()
        refused = await vera.post("/v1/projects", {"name": "p", "description": ""}, 403)
        assert refused["error_code"] == "Forbidden"


async def test_users_can_be_there_from_the_start(kitchen: Kitchen) -> None:
    for _ in range(2):
        async with kitchen.open(users=[("other", "anna", Role.ADMIN)]) as client:
            token = (client.region.directory / "token-other-anna").read_text().strip()
            headers = {"authorization": f"Bearer {token}"}
            assert (await client.http.get("/v1/me", headers=headers)).json()["silo_name"] == "other"
            assert (client.region.directory / "token-other-anna").stat().st_mode & 0o777 == 0o600
            assert token not in (await client.control.get("/inventory")).text


async def test_storage_is_charged_when_disks_and_snapshots_are_made(client: Client) -> None:
    await client.told("/silos/box", {"quotas": {"storage": 3 * GIB}}, "PATCH")
    instance = await client.stopped()
    disk = await client.disk()
    await client.post(
        "/v1/snapshots", {"name": "s", "description": "", "disk": instance["boot_disk_id"]}, project="bakery"
    )
    assert (await client.get("/v1/utilization"))["provisioned"]["storage"] == 3 * GIB
    for refused in (
        await client.disk(status=507),
        await client.instance(status=507),
        await client.post("/v1/snapshots", {"name": "t", "description": "", "disk": disk["id"]}, 507, project="bakery"),
    ):
        assert refused["error_code"] == "InsufficientCapacity"
        assert "Storage Limit Exceeded" in refused["message"]
    await client.delete(f"/v1/disks/{disk['id']}")
    await client.disk()


@pytest.mark.parametrize(("quota", "says"), [({"cpus": 1}, "vCPU Limit"), ({"memory": GIB}, "Memory Limit")])
async def test_cpus_and_memory_are_charged_at_the_start(client: Client, quota: dict[str, int], says: str) -> None:
    await client.told("/silos/box", {"quotas": quota}, "PATCH")
    first = await client.becomes(await client.instance(), "running")
    # The create says nothing of it.
    second = await client.instance()
    assert second["run_state"] == "stopped"
    refused = await client.post(f"/v1/instances/{second['id']}/start", status=507)
    assert refused["message"].startswith("Insufficient capacity: ")
    assert says in refused["message"]
    await client.post(f"/v1/instances/{first['id']}/stop", status=202)
    await client.becomes(first, "stopped")
    await client.post(f"/v1/instances/{second['id']}/start", status=202)
    await client.becomes(second, "running")


async def _poll(client: Client, device_code: str, **changes: str) -> tuple[int, dict[str, str]]:
    form = {"grant_type": GRANT, "device_code": device_code, "client_id": CLIENT_ID, **changes}
    reply = await client.http.post("/device/token", data=form, headers={"authorization": ""})
    return reply.status_code, reply.json()


async def test_a_command_line_gets_its_token_by_device_authorization(client: Client) -> None:
    form = {"client_id": CLIENT_ID, "ttl_seconds": "1"}
    asked = (await client.http.post("/device/auth", data=form, headers={"authorization": ""})).json()
    assert asked.keys() == {"device_code", "user_code", "verification_uri", "expires_in"}
    code = asked["device_code"]
    assert await _poll(client, code) == (400, {"error": "authorization_pending"})
    assert await _poll(client, code, grant_type="password") == (400, {"error": "unsupported_grant_type"})
    assert await _poll(client, "wrong") == (400, {"error": "invalid_grant"})
    await client.post("/device/confirm", {"user_code": asked["user_code"]}, 204)
    status, told = await _poll(client, code)
    assert (status, told["token_type"]) == (200, "bearer")
    headers = {"authorization": f"Bearer {told['access_token']}"}
    assert (await client.http.get("/v1/me", headers=headers)).json()["display_name"] == "baker"
    assert await _poll(client, code) == (400, {"error": "invalid_grant"})
    listed = (await client.get("/v1/me/access-tokens"))["items"]
    assert told["token_id"] in [token["id"] for token in listed]
    async with asyncio.timeout(20):
        while (await client.http.get("/v1/me", headers=headers)).status_code != 401:
            await asyncio.sleep(0.05)
    await client.delete(f"/v1/me/access-tokens/{told['token_id']}")


async def test_a_request_for_a_token_can_be_refused_or_granted_from_outside(client: Client) -> None:
    await client.told("/users", {"silo": "other", "name": "anna"})
    for answer, expected in ((None, (400, {"error": "access_denied"})), ({"silo": "other", "user": "anna"}, None)):
        asked = (await client.http.post("/device/auth", data={"client_id": CLIENT_ID})).json()
        await client.told(f"/device/{asked['user_code']}", answer)
        reply = await _poll(client, asked["device_code"])
        assert reply == expected if expected else reply[0] == 200
    assert (await client.http.post("/device/auth", data={"client_id": "x"})).status_code == 400
