"""Marks, runs and a ground in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from blocks.errors import BakeryError, CloudError
from tasks.mark import HostProcess, Mark
from tasks.teardown import Owned

LOG = logging.getLogger("image_bakery.test")


def mark_of(run: UUID | None = None, attempt: int = 1, server: str = "local") -> Mark:
    until = datetime.now(UTC) + timedelta(hours=7)
    return Mark(run or uuid4(), attempt, server, HostProcess.current(), until)


def owned(mark: Mark, kind: str = "disk", rank: int = 1, name: str = "") -> Owned:
    name = name or f"{kind}-{mark.tail}"
    return Owned(kind, f"id-{name}", name, mark, rank, f"cloud delete {name}")


@dataclass
class MemoryGround:
    """A cloud in memory, that refuses what it is told to refuse."""

    there: list[Owned] = field(default_factory=list)
    refuses: dict[str, list[Exception]] = field(default_factory=dict)
    """By name: the errors of the next tries to remove it."""
    blind: list[CloudError] = field(default_factory=list)
    """The errors of the next looks."""
    sticky: set[str] = field(default_factory=set)
    """What stays although its removal is said to have worked."""
    of_others: dict[str, str] = field(default_factory=dict)
    """By name: who else is to remove it."""
    tried: list[str] = field(default_factory=list)
    looks: int = 0
    looked: asyncio.Event = field(default_factory=asyncio.Event)

    async def owned(self) -> AsyncIterator[Owned]:
        self.looks += 1
        self.looked.set()
        if self.blind:
            raise self.blind.pop(0)
        for resource in list(self.there):
            await asyncio.sleep(0)
            yield resource

    async def left_to(self, resource: Owned) -> str:
        return self.of_others.get(resource.name, "")

    async def remove(self, resource: Owned) -> None:
        self.tried.append(resource.name)
        await asyncio.sleep(0)
        if errors := self.refuses.get(resource.name):
            raise errors.pop(0)
        if resource.kind == "disk" and any(other.kind == "instance" for other in self.there):
            raise BakeryError("the disk is attached")
        if resource in self.there and resource.name not in self.sticky:
            self.there.remove(resource)
