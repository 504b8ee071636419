"""How provisioners reach the system that is being made, whatever it is: a guest over SSH, or a jail around a chroot."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from blocks.errors import CannotConnect, ConnectionLost, ProvisionerFailed

T = TypeVar("T")

Output = Callable[[bytes], None]


_PAUSE = 0.25


class Communicator(Protocol):
    """Commands and files in the system that is being made. Every wait can be cancelled.

    A command whose wait is cancelled is killed there, with all that it started.
    """

    async def run(self, command: str, output: Output) -> int:
        """Run a command by the system's `/bin/sh`, hand over its output as it comes, and return its exit code.

        Standard error is part of the output, in the order of arrival. A command ended by a signal has the code -1.

        Raises:
            ConnectionLost: the connection broke before the command's end was known.
        """
        ...

    async def upload(self, source: Path | bytes, destination: str, mode: int) -> None:
        """Write a file there, from a file here or from bytes, with these permission bits."""
        ...

    async def upload_directory(self, source: Path, destination: str) -> None:
        """Write the contents of a directory here into a directory there, which is made if need be. Modes are kept."""
        ...

    async def download(self, source: str, destination: Path) -> None:
        """Write a file here from a file there."""
        ...

    async def download_directory(self, source: str, destination: Path) -> None:
        """Write the contents of a directory there into a directory here, made if need be. Modes are kept."""
        ...


@runtime_checkable
class Restartable(Protocol):
    """What a communicator has besides when its connection may break and be made again."""

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands, as far as this end knows."""
        ...

    async def connect(self, timeout: float) -> None:
        """Connect again within `timeout` seconds."""
        ...

    def close(self) -> None:
        """Drop the connection."""
        ...


async def persist(communicator: Communicator, work: Callable[[], Awaitable[T]], timeout: float) -> T:
    """Do something there, and when the connection breaks or does not stand, connect and do it again.

    A guest that goes down or comes up breaks connections; where none can be made again, the first break is the last.

    Args:
        communicator: How the system is reached.
        work: What is done; it must be repeatable.
        timeout: Seconds, for all tries together. The last one may take longer.

    Raises:
        HostKeyChanged: what answers has another host key. That is not tried again.
        ConnectionLost, CannotConnect: the time was not enough; with what went wrong last.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + timeout
    while True:
        try:
            if isinstance(communicator, Restartable) and not communicator.is_connected:
                await communicator.connect(max(end - clock(), 1))
            return await work()
        except (ConnectionLost, CannotConnect):
            if not isinstance(communicator, Restartable) or clock() + _PAUSE > end:
                raise
            communicator.close()
        await asyncio.sleep(_PAUSE)


async def read(communicator: Communicator, command: str) -> tuple[int, str]:
    """Run a command that says little, and return its exit code and what it said."""
    said = bytearray()
    code = await communicator.run(command, said.extend)
    return code, said.decode(errors="replace").strip()


async def must(communicator: Communicator, command: str, *, what: str) -> str:
    """Run a command that has to succeed, and return what it said.

    Raises:
        ProvisionerFailed: it ended with another exit code than 0.
    """
    code, said = await read(communicator, command)
    if code != 0:
        raise ProvisionerFailed(
            f"could not {what}", resource="the system that is being made", why=f"exit code {code}: {said[-2000:]}"
        )
    return said


def as_root(command: str) -> str:
    """The command as root: as it is for root, through `sudo -n` for others."""
    script = shlex.quote(command)
    return f'if [ "$(id -u)" = 0 ]; then sh -c {script}; else sudo -n sh -c {script}; fi'


def as_root_if_possible(command: str) -> str:
    """The command through `sudo -n` for others than root where that may be used, else as it is."""
    script = shlex.quote(command)
    return f'if [ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then sudo -n sh -c {script}; else sh -c {script}; fi'
