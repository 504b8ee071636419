"""Machines without a guest, so that a region's own rules can be tested in milliseconds."""

from __future__ import annotations

import asyncio
from pathlib import Path

from emulators.machines import MachineSpec, PowerOff


class FakeConsole:
    def __init__(self) -> None:
        self.written = b""
        self.typed = b""

    @property
    def total(self) -> int:
        return len(self.written)

    def read(self, start: int, limit: int) -> bytes:
        return self.written[start : start + limit]

    def kept_from(self, start: int) -> int:
        return start


class FakeMachine:
    def __init__(self) -> None:
        self.console = FakeConsole()
        self.specs: list[MachineSpec] = []
        self.resets = 0
        self.refuses = False
        self.off = asyncio.Event()
        self.off.set()
        self.how = PowerOff.BY_REGION

    @property
    def serial(self) -> FakeConsole:
        return self.console

    @property
    def is_on(self) -> bool:
        return not self.off.is_set()

    async def power_on(self, spec: MachineSpec) -> None:
        if self.refuses:
            raise OSError("no such machine today")
        self.specs.append(spec)
        self.console.written = b"boot\r\n"
        self.off.clear()

    def end(self, how: PowerOff) -> None:
        self.how = how
        self.off.set()

    async def power_off(self) -> None:
        if self.is_on:
            self.end(PowerOff.BY_REGION)

    async def reset(self) -> None:
        spec = self.specs[-1]
        await self.power_off()
        self.resets += 1
        await self.power_on(spec)

    async def type(self, data: bytes) -> None:
        self.console.typed += data

    async def wait_off(self) -> PowerOff:
        await self.off.wait()
        return self.how


class FakeMachines:
    name = "fake"

    def __init__(self) -> None:
        self.made: dict[str, FakeMachine] = {}
        self.copying: asyncio.Event | None = None
        """Where a test holds copies up."""
        self.copy_error: OSError | None = None

    def machine(self, instance_id: str) -> FakeMachine:
        return self.made.setdefault(instance_id, FakeMachine())

    async def copy_disk(self, source: Path, target: Path, size: int) -> None:
        if self.copying is not None:
            await self.copying.wait()
        if self.copy_error is not None:
            raise self.copy_error
        # The first block holds all that a test ever writes; copying the zeros after it would take a second.
        with source.open("rb") as old, target.open("wb") as new:
            new.write(old.read(4096))
            new.truncate(size)

    share_disk = copy_disk

    async def delete_disk(self, path: Path) -> None:
        path.unlink(missing_ok=True)
