"""`reboot`: restart the guest, and go on when it has truly been restarted."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import Field

from blocks.errors import CommunicatorError, HostKeyChanged, ProvisionerFailed, WaitExpired
from tasks.communicator import Communicator, Restartable, as_root, must, read
from tasks.provisioners.common import Bench, ProvisionerOptions
from tasks.quantities import Seconds

_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


class Reboot(ProvisionerOptions):
    """Restart the guest and wait until it is back."""

    type: Literal["reboot"] = Field(title="Type", json_schema_extra={"position": 0})
    reboot_command: str | None = Field(
        default=None,
        title="Reboot command",
        description="How the guest restarts itself; by default `reboot`, through sudo where need be.",
        min_length=1,
        json_schema_extra={"position": 2},
    )
    timeout: Seconds = Field(
        default=300,
        title="Time-out",
        description="How long the restart may take.",
        gt=0,
        json_schema_extra={"position": 84},
    )

    @property
    def deadline(self) -> None:
        """None: it keeps its time-out by itself, since it can say what the guest did in that time."""
        return

    async def provision(self, bench: Bench) -> None:
        """Restart. That it happened is proved by the kernel's boot id (random(4)).

        Raises:
            ProvisionerFailed: the guest could not be told to, or has no boot id.
            WaitExpired: it was not back in time, or never went down.
            HostKeyChanged: what came back has another host key.
        """
        guest = bench.communicator
        if not isinstance(guest, Restartable):
            raise ProvisionerFailed("this system cannot be restarted", resource=self.called)
        went_down = False

        async def restarted() -> None:
            nonlocal went_down
            before = await must(guest, _BOOT_ID, what="read the guest's boot id")
            await self._tell(guest)
            while True:
                guest.close()
                try:
                    await guest.connect(self.timeout)
                    code, after = await read(guest, _BOOT_ID)
                except HostKeyChanged:
                    raise
                except CommunicatorError:
                    went_down = True
                else:
                    if code == 0 and after != before:
                        bench.logger.info("Restarted: boot id %s is now %s", before, after)
                        return
                await asyncio.sleep(0.25)

        try:
            async with asyncio.timeout(self.timeout) as limit:
                await restarted()
        except TimeoutError:
            if not limit.expired():
                raise
            raise WaitExpired(
                f"the guest was not back {self.timeout:g} s after it was told to restart"
                if went_down
                else f"the guest did not restart within {self.timeout:g} s",
                resource=self.called,
                hint="Look at the end of its serial console, or give it more time.",
            ) from None

    async def _tell(self, guest: Communicator) -> None:
        try:
            code, said = await read(guest, self.reboot_command or as_root("reboot"))
        except CommunicatorError:
            return  # it took our connection with it
        if code > 0:
            raise ProvisionerFailed(
                f"the guest refused to restart: exit code {code}",
                resource=self.called,
                why=said,
                hint="Give a reboot_command that its user may run.",
            )
