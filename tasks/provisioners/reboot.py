"""`reboot`: restart the guest, and go on when it has truly been restarted."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol, runtime_checkable

from pydantic import Field

from blocks.errors import CommunicatorError, HostKeyChanged, ProvisionerFailed, WaitExpired
from tasks.communicator import Communicator, as_root, must, read
from tasks.provisioners.common import Bench, ProvisionerOptions
from tasks.quantities import Seconds

_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


@runtime_checkable
class Restartable(Communicator, Protocol):
    """A communicator whose system can be restarted."""

    async def connect(self, timeout: float) -> None:
        """Connect again within `timeout` seconds."""
        ...

    def close(self) -> None:
        """Drop the connection."""
        ...


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
        json_schema_extra={"position": 3},
    )

    async def provision(self, bench: Bench) -> None:
        """Restart. That it happened is proved by the kernel's boot id (random(4)).

        Raises:
            ProvisionerFailed: the guest could not be told to, or has no boot id.
            WaitExpired: it was not back in time, or never went down.
            HostKeyChanged: what came back has another host key.
        """
        guest = bench.communicator
        if not isinstance(guest, Restartable):
            raise ProvisionerFailed("this system cannot be restarted", resource=f"provisioner {self.name or self.type}")
        before = await must(guest, _BOOT_ID, what="read the guest's boot id")
        await self._tell(guest)
        clock = asyncio.get_running_loop().time
        end = clock() + self.timeout
        went_down = False
        while (left := end - clock()) > 0:
            guest.close()
            try:
                await guest.connect(left)
                code, after = await read(guest, _BOOT_ID)
            except HostKeyChanged:
                raise
            except CommunicatorError:
                went_down = True
                if clock() >= end:
                    break
            else:
                if code == 0 and after != before:
                    bench.logger.info("Restarted: boot id %s is now %s", before, after)
                    return
            await asyncio.sleep(0.25)
        raise WaitExpired(
            f"the guest was not back {self.timeout:g} s after it was told to restart"
            if went_down
            else f"the guest did not restart within {self.timeout:g} s",
            resource=f"provisioner {self.name or self.type}",
            hint="Look at the end of its serial console, or give it more time.",
        )

    async def _tell(self, guest: Communicator) -> None:
        try:
            code, said = await read(guest, self.reboot_command or as_root("reboot"))
        except CommunicatorError:
            return  # it took our connection with it
        if code > 0:
            raise ProvisionerFailed(
                f"the guest refused to restart: exit code {code}",
                resource=f"provisioner {self.name or self.type}",
                why=said,
                hint="Give a reboot_command that its user may run.",
            )
