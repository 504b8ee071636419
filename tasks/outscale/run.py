"""One attempt of one build on an OUTSCALE VM."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from blocks.outscale.client import OutscaleClient
from tasks import begun
from tasks.mark import Mark
from tasks.outscale.by_hand import KINDS, by_hand
from tasks.outscale.tokens import TAG, client_token
from tasks.run import Logger, Run, Witness


class OutscaleRun(Run):
    """A run, with the account's client."""

    def __init__(
        self, mark: Mark, created: datetime, logger: Logger, witness: Witness, *, client: OutscaleClient
    ) -> None:
        super().__init__(mark, created, logger, witness)
        self.client = client

    def token(self, step: str) -> str:
        """The client token of a step's create: known before the call, so what it makes is found again."""
        return client_token(self.id, self.attempt, step)

    async def put_mark(self, *resource_ids: str, tags: Mapping[str, str] | None = None) -> None:
        """Tag resources with the whole mark, and with what else is given, in one request."""
        for identifier in resource_ids:
            kind = KINDS[identifier.partition("-")[0]]
            begun.made(self.mark, f"{kind} {identifier}", by_hand(kind, identifier, self.mark))
        await self.client.create_tags(resource_ids, {**(tags or {}), TAG: str(self.mark)})
