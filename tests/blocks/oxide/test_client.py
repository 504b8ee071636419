from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import respx
from pydantic import SecretStr, ValidationError

from blocks.errors import (
    AlreadyExists,
    ApiError,
    CapacityExhausted,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    ReplyLost,
    ServiceFault,
    Throttled,
    Unauthorized,
)
from blocks.oxide.client import API_VERSION, OxideClient
from blocks.oxide.requests import ImageCreate, SnapshotSource
from tests.conftest import Tune

URL = "https://rack.test"
ID = "0f0e0d0c-0b0a-4908-8706-050403020100"
BASE = {"id": ID, "name": "x", "description": "", "time_created": "2026-11-21T12:00:00Z"}
IMAGE = {**BASE, "os": "debian", "version": "12", "size": 1, "block_size": 512}
INSTANCE = {**BASE, "project_id": ID, "hostname": "x", "run_state": "running"}
DISK = {**BASE, "project_id": ID, "size": 1, "state": {"state": "attached", "instance": ID}}
SNAPSHOT = {**BASE, "project_id": ID, "disk_id": ID, "size": 1, "state": "ready"}


@pytest.fixture
async def client(tune: Tune) -> AsyncIterator[OxideClient]:
    tune(api_retry_time=0)
    async with OxideClient(f"{URL}/", SecretStr("oxide-token-1")) as opened:
        yield opened


async def test_every_request_says_who_and_which_version(client: OxideClient, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.get(f"{URL}/v1/images/{ID}").respond(json=IMAGE)
    await client.image(ID)
    headers = route.calls.last.request.headers
    assert headers["authorization"] == "Bearer oxide-token-1"
    assert headers["api-version"] == API_VERSION


async def test_pages_are_read_until_there_is_no_next(client: OxideClient, respx_mock: respx.MockRouter) -> None:
    pages = {
        None: {"items": [{**INSTANCE, "name": "a"}, {**INSTANCE, "name": "b"}], "next_page": "t1"},
        "t1": {"items": [{**INSTANCE, "name": "c"}], "next_page": "t2"},
        "t2": {"items": [], "next_page": None},
    }

    def reply(request: httpx.Request) -> httpx.Response:
        assert request.url.params["project"] == "images"
        assert int(request.url.params["limit"]) <= 10_000
        return httpx.Response(200, json=pages[request.url.params.get("page_token")])

    route = respx_mock.get(f"{URL}/v1/instances").mock(side_effect=reply)
    assert [instance.name async for instance in client.instances("images")] == ["a", "b", "c"]
    assert route.call_count == 3


async def test_a_listing_that_breaks_in_the_middle_is_no_short_listing(
    client: OxideClient, respx_mock: respx.MockRouter
) -> None:
    respx_mock.get(f"{URL}/v1/disks").side_effect = [
        httpx.Response(200, json={"items": [DISK], "next_page": "t1"}),
        httpx.Response(503),
    ]
    with pytest.raises(ServiceFault):
        [disk async for disk in client.disks("images")]


@pytest.mark.parametrize(
    ("call", "path", "reply"),
    [
        ("image", "images", IMAGE),
        ("instance", "instances", INSTANCE),
        ("disk", "disks", DISK),
        ("snapshot", "snapshots", SNAPSHOT),
    ],
)
async def test_names_are_looked_up_in_the_project_and_ids_everywhere(
    client: OxideClient, respx_mock: respx.MockRouter, call: str, path: str, reply: dict[str, Any]
) -> None:
    route = respx_mock.get(url__regex=rf"{URL}/v1/{path}/.*").respond(json=reply)
    view = getattr(client, call)
    for named, params in (("x", {"project": "images"}), (ID, {}), (ID.upper(), {})):
        assert (await view(named, project="images")).id == ID
        assert dict(route.calls.last.request.url.params) == params
    await view("x")
    assert not route.calls.last.request.url.params


async def test_an_image_without_a_project_is_the_silos(client: OxideClient, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(f"{URL}/v1/images").respond(201, json=IMAGE)
    request = ImageCreate(name="x", description="", os="debian", version="12", source=SnapshotSource(id=ID))
    await client.create_image(None, request)
    assert not route.calls.last.request.url.params
    await client.create_image("images", request)
    assert dict(route.calls.last.request.url.params) == {"project": "images"}
    assert json.loads(route.calls.last.request.content)["source"] == {"type": "snapshot", "id": ID}


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "InvalidRequest", InvalidRequest),
        (400, "InvalidValue", InvalidRequest),
        (400, None, InvalidRequest),
        (400, "ObjectAlreadyExists", AlreadyExists),
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "ObjectNotFound", NotFound),
        (409, "Conflict", Conflict),
        (410, "Gone", NotFound),
        (418, None, InvalidRequest),
        (429, None, Throttled),
        (500, "Internal", ServiceFault),
        (502, None, ServiceFault),
        (503, "ServiceNotAvailable", ServiceFault),
        (504, None, ServiceFault),
        (507, "InsufficientCapacity", CapacityExhausted),
    ],
)
async def test_a_refusal_says_which_it_is(
    client: OxideClient, respx_mock: respx.MockRouter, status: int, code: str | None, kind: type[ApiError]
) -> None:
    body = {"request_id": "r-1", "message": "because", **({"error_code": code} if code else {})}
    respx_mock.get(f"{URL}/v1/instances/x").respond(status, json=body)
    with pytest.raises(ApiError) as caught:
        await client.instance("x")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.request_id) == (status, code or "", "r-1")
    assert error.resource == "instance x"
    assert error.why == "because"
    assert "oxide-token" not in str(error)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "Bad Gateway"), (b"<html>nginx</html>", "<html>nginx</html>"), (b"[1]", "[1]"), (b"\xff" * 9, "\ufffd" * 9)],
)
async def test_a_refusal_by_something_in_between(
    client: OxideClient, respx_mock: respx.MockRouter, content: bytes, why: str
) -> None:
    respx_mock.get(f"{URL}/v1/instances/x").respond(502, content=content, headers={"x-request-id": "r-2"})
    with pytest.raises(ServiceFault) as caught:
        await client.instance("x")
    assert caught.value.why == why
    assert caught.value.request_id == "r-2"


async def test_a_long_page_of_a_proxy_is_not_shown_whole(client: OxideClient, respx_mock: respx.MockRouter) -> None:
    respx_mock.get(f"{URL}/v1/instances/x").respond(502, text="x" * 100_000)
    with pytest.raises(ServiceFault) as caught:
        await client.instance("x")
    assert len(str(caught.value)) < 1500


async def test_replies_are_checked(client: OxideClient, respx_mock: respx.MockRouter) -> None:
    respx_mock.get(f"{URL}/v1/instances/x").respond(json={"id": ID})
    with pytest.raises(ValidationError):
        await client.instance("x")


async def test_what_is_newer_than_this_client_is_no_error(client: OxideClient, respx_mock: respx.MockRouter) -> None:
    respx_mock.get(f"{URL}/v1/instances/x").respond(json={**INSTANCE, "run_state": "hovering", "colour": "green"})
    assert (await client.instance("x")).run_state == "hovering"


async def test_the_serial_console_is_bytes(client: OxideClient, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.get(f"{URL}/v1/instances/{ID}/serial-console")
    route.respond(json={"data": [0, 104, 105, 255], "last_byte_offset": 4})
    console = await client.serial_console(ID, 4096)
    assert (console.data, console.last_byte_offset) == (b"\x00hi\xff", 4)
    assert dict(route.calls.last.request.url.params) == {"most_recent": "4096"}


async def test_external_addresses(client: OxideClient, respx_mock: respx.MockRouter) -> None:
    items = [{"kind": "snat", "ip": "10.0.0.1", "first_port": 0}, {"kind": "ephemeral", "ip": "10.0.0.2"}]
    respx_mock.get(f"{URL}/v1/instances/{ID}/external-ips").respond(json={"items": items, "next_page": None})
    assert [(ip.kind, ip.ip) for ip in await client.external_ips(ID)] == [
        ("snat", "10.0.0.1"),
        ("ephemeral", "10.0.0.2"),
    ]


@pytest.mark.parametrize("action", ["start", "stop"])
async def test_power(client: OxideClient, respx_mock: respx.MockRouter, action: str) -> None:
    respx_mock.post(f"{URL}/v1/instances/{ID}/{action}").respond(202, json={**INSTANCE, "run_state": f"{action}ing"})
    assert (await getattr(client, f"{action}_instance")(ID)).run_state == f"{action}ing"


async def test_deletes_answer_nothing(client: OxideClient, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.delete(url__startswith=f"{URL}/v1/").respond(204)
    for kind in ("image", "instance", "disk", "snapshot", "ssh_key"):
        await getattr(client, f"delete_{kind}")(ID)
    assert [call.request.url.path for call in route.calls] == [
        f"/v1/{path}/{ID}" for path in ("images", "instances", "disks", "snapshots", "me/ssh-keys")
    ]


@pytest.mark.parametrize("create", [False, True])
async def test_a_page_in_place_of_a_reply(client: OxideClient, respx_mock: respx.MockRouter, create: bool) -> None:
    respx_mock.route().respond(200, html="<title>Log in</title>")
    # What was asked to be made may have been made all the same.
    with pytest.raises(ReplyLost if create else InvalidRequest, match="no JSON"):
        await (client.create_ssh_key("k", "", "ssh-ed25519 AAAA") if create else client.project("p"))


@pytest.mark.parametrize(
    ("call", "path", "project"),
    [
        ("vpc", "vpcs", True),
        ("floating_ip", "floating-ips", True),
        ("anti_affinity_group", "anti-affinity-groups", True),
        ("ssh_key", "me/ssh-keys", False),
    ],
)
async def test_what_an_instance_needs_is_looked_up_by_name_or_id(
    client: OxideClient, respx_mock: respx.MockRouter, call: str, path: str, project: bool
) -> None:
    reply = {**BASE, "ip": "192.0.2.1", "public_key": "ssh-ed25519 AAAA"}
    route = respx_mock.get(url__regex=rf"{URL}/v1/{path}/.*").respond(json=reply)
    scope = {"project": "images"} if project else {}
    view = getattr(client, call)
    for name, params in (("x", scope), (ID, {})):
        assert (await view(name, **scope)).id == ID
        assert dict(route.calls.last.request.url.params) == params


async def test_a_subnet_is_looked_up_in_its_vpc(client: OxideClient, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.get(f"{URL}/v1/vpc-subnets/x").respond(json=BASE)
    await client.subnet("x", project="images", vpc="net")
    assert dict(route.calls.last.request.url.params) == {"project": "images", "vpc": "net"}


@pytest.mark.parametrize(
    ("stack", "ip"),
    [
        ({"type": "v4", "value": {"ip": "172.30.0.5", "transit_ips": []}}, "172.30.0.5"),
        ({"type": "v6", "value": {"ip": "fd00::5", "transit_ips": []}}, "fd00::5"),
        (
            {
                "type": "dual_stack",
                "value": {
                    "v4": {"ip": "172.30.0.5", "transit_ips": []},
                    "v6": {"ip": "fd00::5", "transit_ips": []},
                },
            },
            "172.30.0.5",
        ),
    ],
)
async def test_private_addresses(
    client: OxideClient, respx_mock: respx.MockRouter, stack: dict[str, Any], ip: str
) -> None:
    items = [{**BASE, "primary": True, "ip_stack": stack}]
    route = respx_mock.get(f"{URL}/v1/network-interfaces").respond(json={"items": items, "next_page": None})
    (interface,) = await client.network_interfaces(ID)
    assert (interface.ip, interface.primary) == (ip, True)
    assert route.calls.last.request.url.params["instance"] == ID


async def test_utilization(client: OxideClient, respx_mock: respx.MockRouter) -> None:
    amounts = {"cpus": 1, "memory": 2, "storage": 3}
    respx_mock.get(f"{URL}/v1/utilization").respond(json={"capacity": amounts, "provisioned": amounts})
    assert (await client.utilization()).capacity.storage == 3
