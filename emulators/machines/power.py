"""Power, as every kind of machine has it: one process from power-on to power-off, and how it ended."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from emulators.machines import MachineSpec, PowerOff
from emulators.machines.ring import RingConsole


class Running(Protocol):
    """The process of a machine that is on."""

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        ...

    async def kill(self) -> None:
        """End the process at once, and return when it is gone."""
        ...

    async def type(self, data: bytes) -> None:
        """Send input to its serial port, where it has one."""
        ...


Ended = Callable[[Running, PowerOff], None]
"""Called once by a process that has ended by itself or was killed."""


class PoweredMachine(ABC):
    """A machine whose kind says how a process is started."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._serial = RingConsole()
        self._spec: MachineSpec | None = None
        self._running: Running | None = None
        self._off: asyncio.Future[PowerOff] | None = None

    @abstractmethod
    async def _start(self, spec: MachineSpec, serial: RingConsole, ended: Ended) -> Running:
        """Start the process; raises OSError."""

    @property
    def serial(self) -> RingConsole:
        """What the guest has written to its first serial port since power-on."""
        return self._serial

    async def power_on(self, spec: MachineSpec) -> None:
        """Start the machine. One that is on stays as it is.

        Raises:
            OSError: it could not be started; says why.
        """
        async with self._lock:
            if self._running is not None and not self._running.ended:
                return
            self._serial = RingConsole()
            self._spec = spec
            self._off = asyncio.get_running_loop().create_future()
            await self._begin(spec)

    async def power_off(self) -> None:
        """Kill the process: what the guest has not written to its disk is lost with its memory."""
        async with self._lock:
            if self._running is not None:
                await self._running.kill()
                self._settle(PowerOff.BY_REGION)

    async def reset(self) -> None:
        """Cut the power and give it back. The serial console's history goes on. A machine that is off stays off."""
        async with self._lock:
            if self._running is None or self._running.ended or self._spec is None:
                return
            running, self._running = self._running, None
            try:
                await running.kill()
            finally:
                await self._begin(self._spec)

    async def type(self, data: bytes) -> None:
        """Send input to the serial port. A machine that is off or takes none ignores it."""
        if self._running is not None:
            await self._running.type(data)

    async def wait_off(self) -> PowerOff:
        """Wait until the machine is off. One that was never on is off by the region's will."""
        if self._off is None:
            return PowerOff.BY_REGION
        return await asyncio.shield(self._off)

    async def _begin(self, spec: MachineSpec) -> None:
        # A process may end before `_start` has returned it.
        early: list[tuple[Running, PowerOff]] = []

        def ended(running: Running, how: PowerOff) -> None:
            if self._running is running:
                self._settle(how)
            else:
                early.append((running, how))

        try:
            self._running = await self._start(spec, self._serial, ended)
        except BaseException:
            self._settle(PowerOff.CRASHED)
            raise
        for running, how in early:
            ended(running, how)

    def _settle(self, how: PowerOff) -> None:
        self._running = None
        if self._off is not None and not self._off.done():
            self._off.set_result(how)
