"""A run that makes nothing: what a build would ask of its cloud first, without Prefect."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

from flows.definition import BuildDefinition
from tasks.mark import LOCAL_SERVER, HostProcess, Mark
from tasks.run import Run

RunT = TypeVar("RunT", bound=Run)


class _Nobody:
    """Whom a build that makes nothing has to tell what it makes."""

    def creating(self, resource: str) -> None: ...

    def created(self, resource: str) -> None: ...


@asynccontextmanager
async def rehearsal(definition: BuildDefinition[RunT]) -> AsyncIterator[RunT]:
    """A run on the definition's cloud, for questions only.

    Names that hold a run's id or time are such as a build's would be, not those that one will have.

    Raises:
        CredentialsError: there are none.
        SecretUnavailable: a reference leads nowhere.
    """
    now = datetime.now(UTC)
    mark = Mark(uuid4(), 1, LOCAL_SERVER, HostProcess.current(), now)
    async with definition.cloud() as cloud:
        yield cloud.run(mark, now, logging.getLogger("image_bakery.dry_run"), _Nobody())
