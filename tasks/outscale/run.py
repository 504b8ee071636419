"""One attempt of one build on an OUTSCALE VM."""

from __future__ import annotations

from datetime import datetime

from blocks.outscale.client import OutscaleClient
from tasks.mark import Mark
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

    async def put_mark(self, resource_id: str) -> None:
        """Tag a resource with the whole mark."""
        await self.client.create_tags([resource_id], {TAG: str(self.mark)})
