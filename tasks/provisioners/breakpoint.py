"""`breakpoint`: wait for a person (Packer's `breakpoint` provisioner)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from blocks.errors import ProvisionerFailed
from tasks.provisioners.common import Bench, ProvisionerOptions


class Breakpoint(ProvisionerOptions):
    """Pause the build until a person lets it go on: in the UI (Resume), or at the terminal where there is no UI."""

    type: Literal["breakpoint"] = Field(title="Type", json_schema_extra={"position": 0})
    note: str = Field(
        default="",
        title="Note",
        description="What the person is told.",
        json_schema_extra={"position": 2},
    )
    disable: bool = Field(
        default=False,
        title="Disable",
        description="Do not pause, and only say so.",
        json_schema_extra={"position": 3},
    )

    async def provision(self, bench: Bench) -> None:
        """Wait. The connection stays, and the build's deadline goes on.

        Raises:
            NobodyToAsk: there is neither a UI nor a terminal.
        """
        note = self.note or "The build has come to a breakpoint."
        if self.disable:
            bench.logger.info("Disabled, the build goes on: %s", note)
            return
        if bench.wait_for_person is None:
            raise ProvisionerFailed("nobody can be asked here", resource=self.called)
        await bench.wait_for_person(note)
        bench.logger.info("Going on")
