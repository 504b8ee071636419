"""One attempt of one build: what all of its steps know."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from blocks.errors import AlreadyExists, ApiError, NotFound, NotOurs, ReplyLost, ServiceFault, Unreachable
from tasks.mark import Lineage, Mark

if TYPE_CHECKING:
    from tasks.teardown import Owned

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
    after: float = 0.0
    """Seconds from the build's beginning to the step's."""


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
        self.lineage = Lineage(mark.run, mark.attempt)
        self.created = created
        self.logger = logger
        self.steps: list[StepTime] = []
        self.under_way: list[str] = []
        """The steps that are under way."""
        self.source: dict[str, str] = {}
        """The source image, for the build page."""
        self.made: dict[str, str] = {}
        """The artifact, for the build page."""
        self.parents: Mapping[str, str] = {}
        """The images of its parent definitions, by definition, for the build page."""
        self.children: Sequence[str] = ()
        """The definitions that are built again after this one, for the build page."""
        self.pending: set[str] = set()
        """Resources whose create was sent and whose fate is not known."""
        self.goes_on = False
        """Whether an earlier try may have left something that this one goes on with."""
        self.keeps = False
        """Whether what is there is kept if the build fails now."""
        self.asks = False
        """Whether a person is asked what becomes of the build if it fails."""
        self.is_rescheduled = False
        """Whether Prefect starts the run again when it was suspended and goes on: it is a deployment's."""
        self.suspended = 0
        """How often this attempt was suspended so far; each time a new process went on with it."""
        self.when_kept: Callable[[], str] | None = None
        """Called when a failed build is kept; says how a person reaches what is there."""
        self.command = ""
        """The command line that runs builds of this definition, for what a person is told to type."""
        self.kept = ""
        """What was kept, until when, and how to go on, for the build page."""
        self.at = ""
        """The step that began last."""
        self.stirred = asyncio.Event()
        """Set when a step begins or ends."""
        self._witness = witness
        self._questions = 0
        self._began = time.monotonic()  # the event loop's clock

    @property
    def id(self) -> UUID:
        """The flow run's id."""
        return self.mark.run

    @property
    def attempt(self) -> int:
        """Which attempt of the flow run this is, from 1."""
        return self.mark.attempt

    @property
    def known(self) -> Sequence[Owned]:
        """Temporary resources of this attempt that nobody has to look for before they are removed."""
        return ()

    def next_question(self) -> str:
        """A key for the next pause of this attempt."""
        self._questions += 1
        return f"{self.attempt}-{self._questions}"

    @staticmethod
    def suspension(number: int) -> str:
        """The key of an attempt's suspension, from 1."""
        return f"after-failure-{number}"

    def owned_name(self, part: str = "") -> str:
        """The name of a temporary resource: known before it exists, and another one in each attempt."""
        name = f"bakery-{self.mark.tail}-{self.attempt}"
        return f"{name}-{part}" if part else name

    def owns_description(self, description: str) -> bool:
        """Whether a description is this run's mark, of this attempt or an earlier one."""
        return self.lineage.owns(Mark.parse(description))

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

    def begin(self, name: str) -> None:
        """Say which step begins."""
        self.under_way.append(name)
        self.at = name
        self.stirred.set()

    def record(self, name: str, started: float, outcome: str) -> None:
        """Write down how a step went; `started` is the event loop's time."""
        now = asyncio.get_running_loop().time()
        self.steps.append(StepTime(name, now - started, outcome, max(started - self._began, 0)))
        self.stirred.set()
