"""One attempt of one build: what all of its steps know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from blocks.errors import ApiError, ServiceFault
from tasks.mark import Mark

Logger = logging.Logger | logging.LoggerAdapter[Any]


class Witness(Protocol):
    """Whoever has to know what a build is making while it is made: the reaper."""

    def creating(self, resource: str) -> None:
        """A create is on its way."""

    def created(self, resource: str) -> None:
        """It is known how that create ended."""


@dataclass
class StepTime:
    """How one step went."""

    name: str
    seconds: float
    outcome: str
    """`done`, `failed` or `cancelled`."""


class Run:
    """One attempt of one build: its mark, its names, its log, its steps so far.

    Args:
        mark: What its temporary resources carry.
        created: When the flow run was created: the time in names.
        logger: The flow run's log.
        witness: The reaper.
    """

    def __init__(self, mark: Mark, created: datetime, logger: Logger, witness: Witness) -> None:
        self.mark = mark
        self.created = created
        self.logger = logger
        self.steps: list[StepTime] = []
        self.source: dict[str, str] = {}
        """The source image, for the build page."""
        self.made: dict[str, str] = {}
        """The artifact, for the build page."""
        self.pending: set[str] = set()
        """Resources whose create was sent and whose fate is not known."""
        self._witness = witness

    @property
    def id(self) -> UUID:
        """The flow run's id."""
        return self.mark.run

    @property
    def attempt(self) -> int:
        """Which attempt of the flow run this is, from 1."""
        return self.mark.attempt

    def owned_name(self, part: str = "") -> str:
        """The name of a temporary resource: known before it exists, and another one in each attempt."""
        name = f"bakery-{self.mark.tail}-{self.attempt}"
        return f"{name}-{part}" if part else name

    def owns(self, mark: Mark | None) -> bool:
        """Whether a mark is this attempt's or an earlier one's of the same run."""
        return mark is not None and mark.run == self.id and mark.attempt <= self.attempt

    @asynccontextmanager
    async def creating(self, resource: str) -> AsyncIterator[None]:
        """Around a create call: if it is cut, a teardown knows that something may still come into being."""
        self.pending.add(resource)
        self._witness.creating(resource)
        known = False
        try:
            yield
            known = True
        except ApiError as error:
            known = not isinstance(error, ServiceFault)
            raise
        finally:
            if known:
                self.pending.discard(resource)
                self._witness.created(resource)

    def record(self, name: str, started: float, outcome: str) -> None:
        """Write down how a step went; `started` is the event loop's time."""
        self.steps.append(StepTime(name, asyncio.get_running_loop().time() - started, outcome))
