"""Who is let in: two families of signatures, checked for real."""

from __future__ import annotations

import asyncio
import json

import pytest

from emulators.outscale.signatures import Message, NotSigned, Signature
from tests.emulators.outscale import needs
from tests.emulators.outscale.kitchen import Client, Kitchen

_VECTOR_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
_VECTOR = Message(
    method="POST",
    path="/api/v1/ReadVms",
    query="",
    headers={
        "content-type": "application/json; charset=utf-8",
        "host": "api.eu-west-2.outscale.com",
        "x-osc-date": "20261121T120000Z",
    },
    body=b'{"Filters": {"VmIds": ["i-12345678"]}}',
)
_VECTOR_HEADER = (
    "OSC4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/eu-west-2/api/osc4_request, "
    "SignedHeaders=content-type;host;x-osc-date, "
    "Signature=a8b7e09244b1715cad59ded6cce0084e8c1544713f531be7907d838236f722c9"
)


def test_the_known_signature_is_right_and_any_change_makes_it_wrong() -> None:
    signature = Signature.parse(_VECTOR_HEADER)
    assert signature.is_by(_VECTOR_SECRET, _VECTOR)
    assert not signature.is_by(_VECTOR_SECRET + "x", _VECTOR)
    for changed in (
        Message("POST", "/api/v1/ReadTags", "", _VECTOR.headers, _VECTOR.body),
        Message("POST", _VECTOR.path, "", _VECTOR.headers, b"{}"),
        Message("GET", _VECTOR.path, "", _VECTOR.headers, _VECTOR.body),
        Message("POST", _VECTOR.path, "", {**_VECTOR.headers, "host": "elsewhere"}, _VECTOR.body),
        Message("POST", _VECTOR.path, "a=b", _VECTOR.headers, _VECTOR.body),
    ):
        assert not signature.is_by(_VECTOR_SECRET, changed)


@pytest.mark.parametrize(
    "header", ["", "Basic abc", "Bearer x", _VECTOR_HEADER.replace("osc4_request", "aws4_request")]
)
def test_what_is_no_signature_is_not_read_as_one(header: str) -> None:
    with pytest.raises(NotSigned):
        Signature.parse(header)


async def _curl(client: Client, family: str, secret: str, path: str = "/api/v1/ReadVms") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        needs.curl(),
        *("--silent", "--noproxy", "*", "--path-as-is", "--write-out", "\n%{http_code}", "--aws-sigv4", family),
        *("--user", f"{client.account.access_key}:{secret}", "--header", "Content-Type: application/json"),
        *("--data", '{"Filters":{"VmStateNames":["running"]}}'),
        client.served.api.removesuffix("/api/v1") + path,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    text, _, status = output.decode().rpartition("\n")
    return int(status), text


@pytest.mark.parametrize("family", ["osc:osc:eu-west-2:api", "aws:amz:eu-west-2:api", "osc:osc:eu-west-2:oapi"])
@pytest.mark.parametrize("path", ["/api/v1/ReadVms", "/api/latest/ReadVms", "/oapi/latest/ReadVms"])
async def test_curl_is_let_in(client: Client, family: str, path: str) -> None:
    status, text = await _curl(client, family, client.account.secret_key, path)
    assert status == 200, text
    assert json.loads(text)["Vms"][0]["VmId"] == "i-00000001"


@pytest.mark.parametrize("family", ["osc:osc:eu-west-2:api", "aws:amz:eu-west-2:api"])
async def test_curl_with_another_secret_is_not(client: Client, family: str) -> None:
    status, text = await _curl(client, family, "x" * 40)
    assert (status, json.loads(text)["Errors"][0]["Code"]) == (401, "1")


async def test_a_key_of_another_region_is_refused(client: Client) -> None:
    status, _ = await _curl(client, "osc:osc:us-east-2:api", client.account.secret_key)
    assert status == 401


@pytest.mark.parametrize(
    "path", ["/api/v1/ReadVms", "//api/v1//ReadVms", "/api/latest/ReadVms", "/oapi/latest/ReadVms"]
)
async def test_all_paths_that_clients_use_lead_to_the_call(client: Client, path: str) -> None:
    # Without the base URL: joining would tidy the path.
    url = client.served.api.removesuffix("/api/v1") + path
    assert (await client.http.post(url, json={})).status_code == 200


async def test_without_a_signature_nothing_is_said_but_no(client: Client) -> None:
    response = await client.control.post(f"{client.served.api}/ReadVms", json={})
    assert (response.status_code, response.json()["Errors"][0]) == (
        401,
        {"Type": "AccessDenied", "Details": "", "Code": "1"},
    )
    response = await client.control.post(
        f"{client.served.api}/ReadVms", json={}, headers={"authorization": "Basic eA=="}
    )
    assert response.json()["Errors"][0]["Code"] == "12"


async def test_an_old_signature_is_refused(client: Client) -> None:
    header = _VECTOR_HEADER.replace("AKIDEXAMPLE", client.account.access_key)
    headers = {"authorization": header, "x-osc-date": _VECTOR.headers["x-osc-date"]}
    response = await client.control.post(f"{client.served.api}/ReadVms", json={}, headers=headers)
    assert response.status_code == 401


async def test_four_bad_attempts_lock_the_key(client: Client) -> None:
    for _ in range(4):
        assert (await _curl(client, "osc:osc:eu-west-2:api", "wrong"))[0] == 401
    assert await client.refused("ReadVms") == (401, "13")


async def test_credentials_are_private_and_kept(kitchen: Kitchen) -> None:
    async with kitchen.open(account="123456789012") as first:
        path = kitchen.home.directory / "credentials.json"
        assert path.stat().st_mode & 0o777 == 0o600
        told = json.loads(path.read_text())
        assert told == first.account.model_dump()
        assert told["account_id"] == "123456789012"
    async with kitchen.open() as second:
        assert second.account == first.account
