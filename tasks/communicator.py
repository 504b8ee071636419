"""How provisioners reach the system that is being made, whatever it is: a guest over SSH, or a jail around a chroot."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from blocks.errors import ProvisionerFailed

Output = Callable[[bytes], None]


class Communicator(Protocol):
    """Commands and files in the system that is being made. Every wait can be cancelled."""

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
