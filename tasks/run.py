"""One attempt of one build: what all of its steps know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from blocks.errors import AlreadyExists, ApiError, NotFound, NotOurs, ReplyLost, ServiceFault, Unreachable
from tasks.mark import Mark

T = TypeVar("T")

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

    def owns_description(self, description: str) -> bool:
        """Whether a description is this run's mark, of this attempt or an earlier one."""
        return self.owns(Mark.parse(description))

    @asynccontextmanager
    async def creating(self, resource: str) -> AsyncIterator[None]:
        """Around a create call: if it is cut, a teardown knows that something may still come into being."""
        self.pending.add(resource)
        self._witness.creating(resource)
        known = False
        try:
            yield
            known = True
        except (ApiError, NotOurs, Unreachable) as error:
            known = not isinstance(error, ServiceFault)
            raise
        finally:
            if known:
                self.pending.discard(resource)
                self._witness.created(resource)

    async def create_once(
        self,
        what: str,
        create: Callable[[], Awaitable[T]],
        find: Callable[[], Awaitable[T]],
        is_ours: Callable[[T], bool],
        describe: Callable[[T], str],
    ) -> T:
        """Create a named resource; when that cannot be told or the name is taken, look whether it is there and ours.

        For APIs with no idempotency keys: the name is chosen, and the mark written, before the call.

        Args:
            what: What it is and is called.
            create: Creates it.
            find: Finds it by its name, or raises NotFound.
            is_ours: Whether what was found is what an earlier try made.
            describe: How an error tells whose it is.

        Raises:
            NotOurs: the name belongs to a resource of someone else, or of another attempt.
        """
        async with self.creating(what):
            try:
                return await create()
            except (ReplyLost, ServiceFault, AlreadyExists) as error:
                try:
                    found = await find()
                except NotFound:
                    raise error from None
                if is_ours(found):
                    self.logger.info("Found %s again, made by an earlier try", what)
                    return found
                raise NotOurs(
                    "the name is taken by a resource that this build did not make",
                    resource=what,
                    why=describe(found),
                    hint="It was left alone. Choose another name, or remove it if it is yours.",
                ) from error

    def record(self, name: str, started: float, outcome: str) -> None:
        """Write down how a step went; `started` is the event loop's time."""
        self.steps.append(StepTime(name, asyncio.get_running_loop().time() - started, outcome))
