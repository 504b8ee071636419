"""Tries again: what is repeated, what is not, and when it ends. Only the wire is played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import respx
from pydantic import SecretStr

from blocks.errors import ApiError, CloudError, ReplyLost, ServiceFault, Throttled, Unreachable
from blocks.oxide.client import OxideClient
from tests.conftest import Tune

PROJECT = {"id": "p-1", "name": "images", "description": "", "time_created": "2026-11-21T12:00:00Z"}
KEY = {**PROJECT, "id": "k-1", "name": "key", "public_key": "ssh-ed25519 AAAA"}


@pytest.fixture
async def client(tune: Tune) -> AsyncIterator[OxideClient]:
    async with OxideClient("https://rack.test", SecretStr("oxide-token-1")) as opened:
        yield opened


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, none of which is waited for."""
    made: list[float] = []
    sleep = asyncio.sleep

    async def no_time(seconds: float) -> None:
        made.append(seconds)
        await sleep(0)

    monkeypatch.setattr("blocks.http.asyncio.sleep", no_time)
    return made


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
async def test_a_read_is_tried_again_until_the_fault_passes(
    client: OxideClient, respx_mock: respx.MockRouter, pauses: list[float], status: int
) -> None:
    route = respx_mock.get("https://rack.test/v1/projects/images")
    route.side_effect = [httpx.Response(status)] * 3 + [httpx.Response(200, json=PROJECT)]
    assert (await client.project("images")).id == "p-1"
    assert route.call_count == 4
    assert [round(pause, 1) for pause in pauses] == sorted(round(pause, 1) for pause in pauses)


async def test_it_waits_as_long_as_it_is_asked_to(
    client: OxideClient, respx_mock: respx.MockRouter, pauses: list[float]
) -> None:
    respx_mock.get("https://rack.test/v1/projects/images").side_effect = [
        httpx.Response(429, headers={"retry-after": "1"}),
        httpx.Response(503, headers={"retry-after": "0"}),
        httpx.Response(200, json=PROJECT),
    ]
    await client.project("images")
    assert pauses == [1, 0]


async def test_it_waits_until_the_date_that_it_is_given(
    client: OxideClient, respx_mock: respx.MockRouter, pauses: list[float]
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    respx_mock.get("https://rack.test/v1/projects/images").side_effect = [
        httpx.Response(503, headers={"retry-after": format_datetime(soon, usegmt=True)}),
        httpx.Response(503, headers={"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        httpx.Response(200, json=PROJECT),
    ]
    await client.project("images")
    assert 0 <= pauses[0] <= 2
    assert pauses[1] == 0


async def test_being_asked_to_wait_beyond_the_deadline_ends_it_at_once(
    client: OxideClient, respx_mock: respx.MockRouter, pauses: list[float]
) -> None:
    route = respx_mock.get("https://rack.test/v1/projects/images")
    route.return_value = httpx.Response(429, headers={"retry-after": "3600"})
    with pytest.raises(Throttled):
        await client.project("images")
    assert (route.call_count, pauses) == (1, [])


@pytest.mark.parametrize("when", ["tomorrow", "-1", "1.5e999", "²", "Wed, 99 Oct 2026 07:28:00 GMT"])
async def test_what_is_no_time_is_not_heeded(
    client: OxideClient, respx_mock: respx.MockRouter, pauses: list[float], when: str
) -> None:
    respx_mock.get("https://rack.test/v1/projects/images").side_effect = [
        httpx.Response(503, headers=[(b"retry-after", when.encode())]),
        httpx.Response(200, json=PROJECT),
    ]
    await client.project("images")
    assert 0 < pauses[0] < 1


async def test_the_deadline_ends_the_tries(client: OxideClient, respx_mock: respx.MockRouter, tune: Tune) -> None:
    tune(api_retry_time=0.3)
    route = respx_mock.get("https://rack.test/v1/projects/images").mock(return_value=httpx.Response(503))
    with pytest.raises(ServiceFault) as caught:
        await asyncio.wait_for(client.project("images"), 10)
    assert caught.value.status == 503
    assert route.call_count == 2


async def test_a_create_whose_reply_is_lost_is_not_repeated(
    client: OxideClient, respx_mock: respx.MockRouter, pauses: list[float]
) -> None:
    route = respx_mock.post("https://rack.test/v1/me/ssh-keys").mock(side_effect=httpx.ReadError("reset"))
    with pytest.raises(ReplyLost) as caught:
        await client.create_ssh_key("key", "mark", "ssh-ed25519 AAAA")
    assert route.call_count == 1
    assert "SSH key key" in str(caught.value)
    assert "may have been done" in caught.value.hint


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_create_that_the_cloud_may_have_done_is_not_repeated(
    client: OxideClient, respx_mock: respx.MockRouter, pauses: list[float], status: int
) -> None:
    route = respx_mock.post("https://rack.test/v1/me/ssh-keys").mock(return_value=httpx.Response(status))
    with pytest.raises(ServiceFault):
        await client.create_ssh_key("key", "mark", "ssh-ed25519 AAAA")
    assert route.call_count == 1


@pytest.mark.parametrize(
    "not_done",
    [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow"), httpx.PoolTimeout("full"), httpx.Response(429)],
)
async def test_a_create_that_was_certainly_not_done_is_repeated(
    client: OxideClient,
    respx_mock: respx.MockRouter,
    pauses: list[float],
    not_done: httpx.Response | httpx.TransportError,
) -> None:
    route = respx_mock.post("https://rack.test/v1/me/ssh-keys")
    route.side_effect = [not_done, httpx.Response(201, json=KEY)]
    assert (await client.create_ssh_key("key", "mark", "ssh-ed25519 AAAA")).id == "k-1"
    assert route.call_count == 2


@pytest.mark.parametrize(
    "call", ["delete_disk", "delete_instance", "delete_snapshot", "delete_image", "delete_ssh_key"]
)
async def test_a_delete_whose_reply_is_lost_is_repeated(
    client: OxideClient, respx_mock: respx.MockRouter, pauses: list[float], call: str
) -> None:
    route = respx_mock.delete(url__startswith="https://rack.test/v1/")
    route.side_effect = [httpx.RemoteProtocolError("cut"), httpx.Response(204)]
    await getattr(client, call)("x-1")
    assert route.call_count == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 418, 507])
async def test_a_wrong_request_is_never_repeated(
    client: OxideClient, respx_mock: respx.MockRouter, pauses: list[float], status: int
) -> None:
    route = respx_mock.get("https://rack.test/v1/projects/images").mock(return_value=httpx.Response(status))
    with pytest.raises(ApiError):
        await client.project("images")
    assert (route.call_count, pauses) == (1, [])


async def test_nobody_there(client: OxideClient, respx_mock: respx.MockRouter, tune: Tune) -> None:
    tune(api_retry_time=0)
    respx_mock.get("https://rack.test/v1/projects/images").mock(side_effect=httpx.ConnectError("no route"))
    with pytest.raises(Unreachable) as caught:
        await client.project("images")
    assert "https://rack.test" in str(caught.value)
    assert "no route" in str(caught.value)
    assert "oxide-token-1" not in str(caught.value)


async def test_a_wait_between_tries_can_be_cancelled(
    client: OxideClient, respx_mock: respx.MockRouter, tune: Tune
) -> None:
    tune(api_retry_time=60)
    asked = asyncio.Event()

    def reply(_: httpx.Request) -> httpx.Response:
        asked.set()
        return httpx.Response(503, headers={"retry-after": "30"})

    respx_mock.get("https://rack.test/v1/projects/images").mock(side_effect=reply)
    reading = asyncio.create_task(client.project("images"))
    await asked.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(reading, 5)


async def test_a_redirect_is_not_followed_with_the_token(client: OxideClient, respx_mock: respx.MockRouter) -> None:
    respx_mock.get("https://rack.test/v1/projects/images").mock(
        return_value=httpx.Response(302, headers={"location": "https://elsewhere.test/"})
    )
    with pytest.raises(CloudError):
        await client.project("images")
