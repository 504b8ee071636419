"""One attempt of one build on an Oxide region."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from pydantic import SecretStr

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

    async def create_named(
        self,
        what: str,
        create: Callable[[], Awaitable[ResourceT]],
        find: Callable[[], Awaitable[ResourceT]],
        is_ours: Callable[[ResourceT], bool] | None = None,
    ) -> ResourceT:
        """`create_once` for a resource of the region; by default it is ours when it carries this attempt's mark."""
        return await self.create_once(
            what,
            create,
            find,
            is_ours or self.carries_our_mark,
            lambda found: f"its id is {found.id}, its description is {found.description[:200]!r}",
        )

    def carries_our_mark(self, resource: Resource) -> bool:
        """Whether a resource's description is the mark of this very attempt."""
        mark = Mark.parse(resource.description)
        return mark is not None and (mark.run, mark.attempt) == (self.id, self.attempt)
