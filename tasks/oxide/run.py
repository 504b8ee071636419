"""One attempt of one build on an Oxide region."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from pydantic import SecretStr

from blocks.errors import AlreadyExists, NotFound, NotOurs, ReplyLost, ServiceFault
from blocks.oxide.client import OxideClient
from blocks.oxide.models import Resource
from tasks.mark import Mark
from tasks.run import Logger, Run, Witness

ResourceT = TypeVar("ResourceT", bound=Resource)


class OxideRun(Run):
    """A run, with the region's client and the project in which everything is made."""

    def __init__(
        self,
        mark: Mark,
        created: datetime,
        logger: Logger,
        witness: Witness,
        *,
        client: OxideClient,
        token: SecretStr,
        project: str,
    ) -> None:
        super().__init__(mark, created, logger, witness)
        self.client = client
        self.token = token
        """The API token, from which the temporary key is derived."""
        self.project = project

    async def create_once(
        self,
        what: str,
        create: Callable[[], Awaitable[ResourceT]],
        find: Callable[[], Awaitable[ResourceT]],
        is_ours: Callable[[ResourceT], bool],
    ) -> ResourceT:
        """Create a named resource; when that cannot be told or the name is taken, look whether it is there and ours.

        The API has no idempotency keys, so the name is chosen, and the mark written, before the call.

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
                    resource=f"{what} ({found.id})",
                    why=f"its description is: {found.description[:200]!r}",
                    hint="It was left alone. Choose another name, or remove it if it is yours.",
                ) from error

    def carries_our_mark(self, resource: Resource) -> bool:
        """Whether a resource's description is the mark of this very attempt."""
        mark = Mark.parse(resource.description)
        return mark is not None and (mark.run, mark.attempt) == (self.id, self.attempt)
