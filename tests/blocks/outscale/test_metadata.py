from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from blocks.errors import NotOnVm
from blocks.outscale.metadata import ThisVm, this_vm
from tests.conftest import Tune

ID, ZONE = "/latest/meta-data/instance-id", "/latest/meta-data/placement/availability-zone"


def _service(**replies: httpx.Response | Callable[[], httpx.Response]) -> httpx.MockTransport:
    def reply(request: httpx.Request) -> httpx.Response:
        made = replies["id" if request.url.path == ID else "zone"]
        return made() if callable(made) else made

    return httpx.MockTransport(reply)


async def test_it_says_which_vm_and_where(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(outscale_metadata="http://metadata.test:8081/")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test")
    asked: list[str] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, text="i-12345678\n" if request.url.path == ID else "eu-west-2a")

    assert await this_vm(transport=httpx.MockTransport(reply)) == ThisVm("i-12345678", "eu-west-2a")
    assert asked == [f"http://metadata.test:8081{ID}", f"http://metadata.test:8081{ZONE}"]


async def test_a_fault_that_passes_is_waited_for(tune: Tune) -> None:
    answers = iter([httpx.Response(503, headers={"retry-after": "0"}), httpx.Response(200, text="i-12345678")])
    service = _service(id=lambda: next(answers), zone=httpx.Response(200, text="eu-west-2b"))
    assert (await this_vm(transport=service)).subregion_name == "eu-west-2b"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404),
        httpx.Response(302, headers={"location": "http://elsewhere.test"}),
        httpx.Response(200, text=""),
        httpx.Response(200, text="<html>log in</html>"),
        httpx.Response(200, text="i-1234567" + "8" * 4096),
    ],
)
async def test_what_is_no_outscale_vm_says_so(tune: Tune, answer: httpx.Response) -> None:
    with pytest.raises(NotOnVm, match="does not look like an OUTSCALE VM") as caught:
        await this_vm(transport=_service(id=answer))
    assert "IMAGE_BAKERY_OUTSCALE_METADATA" in caught.value.hint
    assert str(answer.status_code) in caught.value.why


async def test_nothing_there_says_so(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocks.outscale.metadata._RETRY_TIME", 0)
    tune(outscale_metadata="http://127.0.0.1:1")
    with pytest.raises(NotOnVm) as caught:
        await this_vm()
    assert caught.value.resource == f"http://127.0.0.1:1{ID}"
    assert caught.value.why


async def test_an_answer_that_never_ends_is_not_waited_for(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    class Never(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr("blocks.outscale.metadata._DEADLINE", 0.05)
    with pytest.raises(NotOnVm, match="no whole answer"):
        await this_vm(transport=Never())
