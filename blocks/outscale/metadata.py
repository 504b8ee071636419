"""Which VM this process runs on, as the region's metadata service says."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import httpx

from blocks.errors import CloudError, NotOnVm, ServiceFault
from blocks.http import retry_after, transport_errors, until_it_passes
from blocks.settings import settings

_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_SUBREGION = re.compile(r"[a-z0-9-]{1,64}")
_LONGEST = 256
_RETRY_TIME = 3.0
_DEADLINE = 7.0


@dataclass(frozen=True)
class ThisVm:
    """The VM that this process runs on."""

    vm_id: str
    subregion_name: str


async def this_vm(*, transport: httpx.AsyncBaseTransport | None = None) -> ThisVm:
    """Ask which VM this process runs on, and in which subregion. Proxies are passed by; it takes 7 s at most.

    Args:
        transport: For tests: what carries the requests.

    Raises:
        NotOnVm: nothing answers (setting `outscale_metadata`), or something that is no OUTSCALE metadata service.
    """
    address = settings().outscale_metadata.rstrip("/")
    try:
        async with (
            asyncio.timeout(_DEADLINE),
            httpx.AsyncClient(
                transport=transport,
                trust_env=False,
                verify=address.startswith("https:"),  # to read certificates that nothing uses takes a tenth of a second
                timeout=httpx.Timeout(2, connect=1),
                follow_redirects=False,
            ) as http,
        ):
            vm_id = await _ask(http, f"{address}/latest/meta-data/instance-id", _INSTANCE_ID)
            subregion = await _ask(http, f"{address}/latest/meta-data/placement/availability-zone", _SUBREGION)
    except TimeoutError as error:
        raise _not_on_vm(address, f"no whole answer within {_DEADLINE:g} s") from error
    return ThisVm(vm_id, subregion)


async def _ask(http: httpx.AsyncClient, url: str, form: re.Pattern[str]) -> str:
    asked: float | None = None

    async def once() -> str:
        nonlocal asked
        async with transport_errors(url, ""), http.stream("GET", url) as reply:
            if reply.status_code >= 500 or reply.status_code == 429:
                asked = retry_after(reply)
                raise ServiceFault("the metadata service is at fault", status=reply.status_code)
            text = ""
            if reply.is_success:
                async for piece in reply.aiter_text():
                    text += piece
                    if len(text) > _LONGEST:
                        break
            if not form.fullmatch(text.strip()):
                raise _not_on_vm(url, f"the answer (HTTP {reply.status_code}) is not that of an OUTSCALE VM")
            return text.strip()

    try:
        return await until_it_passes(once, repeatable=True, retry_after=lambda: asked, retry_time=_RETRY_TIME)
    except NotOnVm:
        raise
    except CloudError as error:
        raise _not_on_vm(url, error.why or str(error)) from error


def _not_on_vm(url: str, why: str) -> NotOnVm:
    return NotOnVm(
        "this host does not look like an OUTSCALE VM",
        resource=url,
        why=why,
        hint="An OMI is baked on a VM in the region and subregion where its volume is made. On such a VM, let it "
        "reach the metadata service, or set IMAGE_BAKERY_OUTSCALE_METADATA to where it is.",
    )
