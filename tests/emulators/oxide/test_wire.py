"""What is the same for every request: credentials, versions, errors, names, pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulators.oxide.api_document import ApiDocument
from tests.emulators.oxide.kitchen import GIB, Client


async def test_ping_needs_no_token(client: Client) -> None:
    response = await client.http.get("/v1/ping", headers={"authorization": ""})
    assert response.json() == {"status": "ok"}


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Bearer oxide-token-00", "Basic abc"])
async def test_a_wrong_token_is_refused(client: Client, header: str) -> None:
    response = await client.http.get("/v1/me", headers={"authorization": header})
    assert (response.status_code, response.json()["error_code"]) == (401, "Unauthorized")


@pytest.mark.parametrize("version", ["2026060800.0.0", "2026072800.0.0", "2026073100.0.0"])
async def test_known_versions_are_served(client: Client, version: str) -> None:
    assert (await client.http.get("/v1/me", headers={"api-version": version})).status_code == 200


async def test_a_newer_version_is_refused_without_an_error_code(client: Client) -> None:
    response = await client.http.get("/v1/me", headers={"api-version": "2026073101.0.0"})
    assert response.status_code == 400
    assert response.json()["message"] == "server does not support this API version: 2026073101.0.0"
    assert "error_code" not in response.json()


async def test_an_unknown_path_is_a_404_in_the_api_s_own_form(client: Client) -> None:
    response = await client.http.get("/v1/no-such-thing")
    assert response.status_code == 404
    assert response.json().keys() == {"request_id", "message"}
    assert response.headers["x-request-id"] == response.json()["request_id"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "unable to parse JSON body: "),
        (b"{}", "missing field `name`"),
        (b'{"name":"Big","description":""}', "lowercase"),
        (b'{"name":"a-","description":""}', "cannot end"),
        (b'{"name":"a' + b"b" * 63 + b'","description":""}', "at most 63 characters"),
        (b'{"name":"6d3f0a2e-7c1f-4a57-9d0a-2f2f0f2f0f2f","description":""}', "cannot be a UUID"),
        (b'{"name":7,"description":""}', "string"),
    ],
)
async def test_a_body_that_cannot_be_read_is_a_400_without_an_error_code(
    client: Client, body: bytes, says: str
) -> None:
    response = await client.http.post("/v1/projects", content=body)
    assert response.status_code == 400
    assert says in response.json()["message"]
    assert "error_code" not in response.json()


async def test_a_body_above_one_mebibyte_is_refused(client: Client) -> None:
    response = await client.http.post("/v1/projects", content=b" " * ((1 << 20) + 1))
    assert response.status_code == 400
    assert "exceeded maximum size" in response.json()["message"]


async def test_a_name_needs_its_project_and_an_id_refuses_one(client: Client) -> None:
    instance = await client.stopped()
    by_name = await client.get(f"/v1/instances/{instance['name']}", project="bakery")
    assert by_name["id"] == instance["id"]
    both = await client.http.get(f"/v1/instances/{instance['id']}", params={"project": "bakery"})
    assert (both.status_code, both.json()["error_code"]) == (400, "InvalidRequest")
    neither = await client.http.get(f"/v1/instances/{instance['name']}")
    assert (neither.status_code, neither.json()["error_code"]) == (400, "InvalidRequest")


async def test_what_is_not_there_is_named_in_the_404(client: Client) -> None:
    response = await client.http.get("/v1/images/no-such", params={"project": "bakery"})
    assert response.status_code == 404
    assert response.json()["error_code"] == "ObjectNotFound"
    assert response.json()["message"] == 'not found: project-image with name "no-such"'


async def test_a_name_is_unique_in_its_project(client: Client) -> None:
    instance = await client.stopped()
    reply = await client.instance(status=400, name=instance["name"])
    assert reply["error_code"] == "ObjectAlreadyExists"
    assert reply["message"] == f'already exists: instance "{instance["name"]}"'


async def _pages(client: Client, **query: Any) -> list[list[str]]:
    pages, token = [], None
    while True:
        more = {"page_token": token} if token else query
        page = await client.get("/v1/projects", limit=2, **more)
        if token := page["next_page"]:
            pages.append([item["name"] for item in page["items"]])
        else:
            assert page["items"] == []
            return pages


async def test_pages_follow_each_other_until_one_is_empty(client: Client) -> None:
    for name in ("d", "b", "a", "c"):
        await client.post("/v1/projects", {"name": name, "description": ""})
    assert await _pages(client) == [["a", "b"], ["bakery", "c"], ["d"]]
    assert await _pages(client, sort_by="name_descending") == [["d", "c"], ["bakery", "b"], ["a"]]
    by_id = [name for page in await _pages(client, sort_by="id_ascending") for name in page]
    assert sorted(by_id) == ["a", "b", "bakery", "c", "d"]


async def test_a_page_goes_on_where_it_was_although_things_come_and_go(client: Client) -> None:
    for name in ("a", "c", "e"):
        await client.post("/v1/projects", {"name": name, "description": ""})
    first = await client.get("/v1/projects", limit=2)
    await client.delete("/v1/projects/bakery")
    await client.post("/v1/projects", {"name": "d", "description": ""})
    rest = await client.get("/v1/projects", page_token=first["next_page"])
    assert [item["name"] for item in rest["items"]] == ["c", "d", "e"]


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "x"}, {"sort_by": "age"}, {"page_token": "x"}])
async def test_a_wrong_page_is_refused(client: Client, query: dict[str, str]) -> None:
    response = await client.http.get("/v1/projects", params=query)
    assert response.status_code == 400
    assert "unable to parse query string" in response.json()["message"]


async def test_every_operation_answers_as_the_document_says(client: Client, api_document: ApiDocument) -> None:
    """Each kind of thing is made, seen, listed and deleted; the client checks every reply on the way."""
    key = await client.key()
    instance = await client.becomes(await client.instance(), "running")
    group = {"name": "g", "description": "", "policy": "allow", "failure_domain": "sled"}
    await client.post("/v1/anti-affinity-groups", group, project="bakery")
    floating = {"name": "f", "description": "", "address_allocator": {"type": "auto"}}
    await client.post("/v1/floating-ips", floating, project="bakery")
    await client.post(
        "/v1/floating-ips/f/attach", {"kind": "instance", "parent": instance["name"]}, 202, project="bakery"
    )
    blank = {"type": "distributed", "disk_source": {"type": "blank", "block_size": 4096}}
    await client.post(
        "/v1/disks", {"name": "blank", "description": "", "size": GIB, "disk_backend": blank}, project="bakery"
    )
    image = await client.made_image(project="bakery")
    snapshot = (await client.get("/v1/snapshots", project="bakery"))["items"][0]
    for path in (
        "/v1/me",
        "/v1/projects",
        "/v1/projects/bakery",
        "/v1/utilization",
        "/v1/ip-pools",
        "/v1/ip-pools/default",
        "/v1/me/ssh-keys",
        f"/v1/me/ssh-keys/{key['name']}",
        f"/v1/images/{image['id']}",
        f"/v1/snapshots/{snapshot['id']}",
        f"/v1/disks/{instance['boot_disk_id']}",
        *(f"/v1/instances/{instance['id']}/{part}" for part in ("external-ips", "disks", "ssh-public-keys")),
        f"/v1/instances/{instance['id']}/anti-affinity-groups",
        f"/v1/instances/{instance['id']}/serial-console?from_start=0",
    ):
        await client.get(path)
    for path in (
        "/v1/images",
        "/v1/instances",
        "/v1/disks",
        "/v1/snapshots",
        "/v1/vpcs",
        "/v1/vpcs/default",
        "/v1/vpc-subnets?vpc=default",
        "/v1/vpc-subnets/default?vpc=default",
        "/v1/floating-ips",
        "/v1/floating-ips/f",
        "/v1/anti-affinity-groups",
        "/v1/anti-affinity-groups/g",
        "/v1/anti-affinity-groups/g/members",
        f"/v1/network-interfaces?instance={instance['name']}",
        f"/v1/network-interfaces/net0?instance={instance['name']}",
    ):
        await client.get(f"{path}{'&' if '?' in path else '?'}project=bakery")
    await client.post(f"/v1/images/{image['id']}/promote", status=202)
    await client.post(f"/v1/images/{image['id']}/demote", status=202, project="bakery")
    for verb in ("reboot", "stop", "start"):
        await client.post(f"/v1/instances/{instance['id']}/{verb}", status=202)
        await client.becomes(instance, "stopped" if verb == "stop" else "running")
    await client.post("/v1/floating-ips/f/detach", status=202, project="bakery")
    for path in ("/v1/floating-ips/f", "/v1/anti-affinity-groups/g", "/v1/disks/blank"):
        await client.delete(path, project="bakery")
    await client.delete(f"/v1/snapshots/{snapshot['id']}")
    await client.delete(f"/v1/images/{image['id']}")
    await client.delete(f"/v1/me/ssh-keys/{key['name']}")
    assert "instance_reboot" in api_document.checked
