"""Signatures: the published shape's test vector, and the official client's own signer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr

from blocks.outscale.signing import Osc4Auth

KEY, SECRET = "AKIDEXAMPLE", SecretStr("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
MOMENT = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
BODY = b'{"Filters": {"VmIds": ["i-12345678"]}}'
TYPE = "application/json; charset=utf-8"


def _signed(url: str, *, region: str = "eu-west-2", body: bytes = BODY, moment: datetime = MOMENT) -> httpx.Request:
    request = httpx.Request("POST", url, content=body, headers={"Content-Type": TYPE})
    return next(Osc4Auth(KEY, SECRET, region, now=lambda: moment).auth_flow(request))


def test_the_vector() -> None:
    signed = _signed("https://api.eu-west-2.outscale.com/api/v1/ReadVms")
    assert signed.headers["x-osc-date"] == "20261121T120000Z"
    assert signed.headers["authorization"] == (
        "OSC4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/eu-west-2/api/osc4_request, "
        "SignedHeaders=content-type;host;x-osc-date, "
        "Signature=a8b7e09244b1715cad59ded6cce0084e8c1544713f531be7907d838236f722c9"
    )


@pytest.mark.parametrize("region", ["eu-west-2", "cloudgouv-eu-west-1"])
@pytest.mark.parametrize("body", ["{}", '{"Tags": [{"Key": "é", "Value": "ü"}]}'])
def test_the_official_client_signs_alike(monkeypatch: pytest.MonkeyPatch, region: str, body: str) -> None:
    authentication = pytest.importorskip("osc_sdk_python.authentication")
    credentials = pytest.importorskip("osc_sdk_python.credentials")
    host = f"api.{region}.outscale.com"
    profile = credentials.Profile(access_key=KEY, secret_key=SECRET.get_secret_value(), region=region)
    signer = authentication.Authentication(profile, host)
    monkeypatch.setattr(signer, "build_dates", lambda: ("20261121T120000Z", "20261121"))
    theirs = signer.forge_headers_signed("/api/v1/ReadVms", body)
    ours = _signed(f"https://{host}/api/v1/ReadVms", region=region, body=body.encode())
    assert ours.headers["authorization"] == theirs["Authorization"]


def test_the_host_is_signed_as_it_is_sent() -> None:
    plain, ported = _signed("http://127.0.0.1/api/v1/ReadVms"), _signed("http://127.0.0.1:8080/api/v1/ReadVms")
    assert ported.headers["host"] == "127.0.0.1:8080"
    assert plain.headers["authorization"] != ported.headers["authorization"]


def test_dates_are_utc() -> None:
    here = MOMENT.astimezone().replace(microsecond=0)
    assert _signed("https://api/ReadVms", moment=here).headers["x-osc-date"] == "20261121T120000Z"


async def test_each_try_is_signed_anew() -> None:
    moments = iter([MOMENT, MOMENT + timedelta(minutes=20)])
    seen: list[str] = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["x-osc-date"])
        return httpx.Response(200)

    auth = Osc4Auth(KEY, SECRET, "eu-west-2", now=lambda: next(moments))
    async with httpx.AsyncClient(transport=httpx.MockTransport(reply), auth=auth) as http:
        await http.post("https://api/ReadVms", content=BODY)
        await http.post("https://api/ReadVms", content=BODY)
    assert seen == ["20261121T120000Z", "20261121T122000Z"]
