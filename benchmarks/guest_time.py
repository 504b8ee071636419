"""How long a virtual machine's guest is busy with itself: its boot and its shutdown, as its console shows them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import httpx

from benchmarks.programs import BenchmarkFailed
from benchmarks.regions import OxideRegion

_LOOK = 0.05
_BOOTED = "tiny: instance "
"""The tiny guest says so just before it starts its SSH server."""
_SHUTTING_DOWN = "tiny: shutting down"


async def guest_time(region: OxideRegion, timeout: float = 300) -> float:
    """Watch the next instance: seconds from power-on until its SSH server starts, and from shutdown until it is off.

    Raises:
        BenchmarkFailed: no instance was seen from its beginning to its end.
    """
    token = Path(region.ready["token_file"]).read_text(encoding="utf-8").strip()
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            asyncio.timeout(timeout),
            httpx.AsyncClient(base_url=region.ready["api"], headers=headers, trust_env=False) as api,
        ):
            instance = await _next_instance(region)
            booted = await _console_says(api, instance, _BOOTED)
            running = await _changed(api, instance)
            shutting_down = await _console_says(api, instance, _SHUTTING_DOWN)
            await _until_off(region, instance)
            stopped = await _changed(api, instance)
    except TimeoutError:
        raise BenchmarkFailed(f"no guest was seen from its boot to its shutdown within {timeout:g} s") from None
    return (booted - running) + (stopped - shutting_down)


async def _next_instance(region: OxideRegion) -> str:
    while not (instances := (await region.resources())["instances"]):
        await asyncio.sleep(_LOOK)
    return str(instances[0]["id"])


async def _console_says(api: httpx.AsyncClient, instance: str, text: str) -> float:
    path = f"/v1/instances/{instance}/serial-console"
    while True:
        reply = await api.get(path, params={"from_start": 0})
        if reply.is_success and text in bytes(reply.json()["data"]).decode(errors="replace"):
            return datetime.now(UTC).timestamp()
        await asyncio.sleep(_LOOK)


async def _until_off(region: OxideRegion, instance: str) -> None:
    while any(
        seen["id"] == instance and seen["state"] != "stopped" for seen in (await region.resources())["instances"]
    ):
        await asyncio.sleep(_LOOK)


async def _changed(api: httpx.AsyncClient, instance: str) -> float:
    """When an instance came into the state that it is in."""
    reply = await api.get(f"/v1/instances/{instance}")
    if not reply.is_success:
        raise BenchmarkFailed(f"the instance was gone before it was seen: {reply.text}")
    return datetime.fromisoformat(reply.json()["time_run_state_updated"]).timestamp()
