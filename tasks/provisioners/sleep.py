"""`sleep`: wait (Packer's `sleep` provisioner)."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import Field

from tasks.provisioners.common import Bench, ProvisionerOptions
from tasks.quantities import Seconds


class Sleep(ProvisionerOptions):
    """Wait."""

    type: Literal["sleep"] = Field(title="Type", json_schema_extra={"position": 0})
    duration: Seconds = Field(
        title="Duration", description="How long: 10s, 1m, or seconds.", gt=0, json_schema_extra={"position": 2}
    )

    async def provision(self, bench: Bench) -> None:
        """Wait."""
        bench.logger.info("Waiting %g s", self.duration)
        await asyncio.sleep(self.duration)
