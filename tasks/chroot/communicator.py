"""A chroot in a jail: the communicator of builders that provision a volume of this host."""

from __future__ import annotations

import os
import secrets
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from blocks.errors import CommunicatorError
from tasks.chroot.jail import Jail
from tasks.chroot.line import PROGRAM, PROGRAM_ENVIRONMENT, OperationFailed
from tasks.communicator import Output

_LONGEST_COMMAND = 128 * 1024 - 1
"""MAX_ARG_STRLEN (execve(2)), without the NUL."""


class JailCommunicator:
    """Commands and files in a jail whose root is mounted.

    A command begins in `/`, with an environment of its own and nothing of the builder's. What it leaves running stays
    until `Jail.end_strays`; a command that is cancelled leaves nothing.

    Args:
        jail: The jail.
        command_wrapper: Host shell text with `{{.Command}}`: each command inside is started by a shell of the host, in
            the jail's mount namespace, through that text. It wraps commands, not copies.
    """

    def __init__(self, jail: Jail, command_wrapper: str | None = None) -> None:
        self._jail = jail
        self._wrapper = None if command_wrapper in (None, "", "{{.Command}}") else command_wrapper

    def __str__(self) -> str:
        return str(self._jail)

    async def run(self, command: str, output: Output) -> int:
        """Run a command by the image's `/bin/sh`, which gets it unchanged; see `Communicator.run`.

        Raises:
            CommunicatorError: the image has no shell that this machine can run, or the command is longer than 128 KiB.
            ConnectionLost: the jail is gone.
        """
        if "\0" in command or len(os.fsencode(command)) > _LONGEST_COMMAND:
            raise CommunicatorError(
                "cannot run a command that holds a NUL or more than 128 KiB",
                resource=str(self),
                hint="Upload it as a script, and run that.",
            )
        argv = ["/bin/sh", "-c", command]
        try:
            if self._wrapper is None:
                return await self._jail.line.run(argv, output, inside=True)
            return await self._run_wrapped(self._wrapper, argv, output)
        except OperationFailed as error:
            raise CommunicatorError(
                "could not start /bin/sh",
                resource=str(self),
                why=error.why,
                hint="Is the right partition mounted, and is the image for this machine's processor?",
            ) from None

    async def _run_wrapped(self, wrapper: str, argv: list[str], output: Output) -> int:
        home = f"/proc/{self._jail.first_process}/ns"
        enter = [*PROGRAM, "enter", str(self._jail.mount_path), f"{home}/ipc", f"{home}/uts", *argv]
        text = wrapper.replace("{{.Command}}", f"env {shlex.join(_variables())} {shlex.join(enter)}")
        return await self._jail.run_beside(["/bin/sh", "-c", text], output, dict(os.environ), "/")

    async def upload(self, source: Path | bytes, destination: str, mode: int) -> None:
        """Write a file inside; see `Communicator.upload`.

        Raises:
            CommunicatorError: it could not be written.
            OSError: the source could not be read.
        """
        descriptor = _in_memory(source) if isinstance(source, bytes) else os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self._do(
                f"write {destination}", "write_file", descriptor, destination=_absolute(destination), mode=mode
            )
        finally:
            os.close(descriptor)

    async def upload_directory(self, source: Path, destination: str) -> None:
        """Write a directory's contents inside; see `Communicator.upload_directory`.

        Links become what they lead to. A directory that is there already keeps its mode.

        Raises:
            CommunicatorError: it could not be read or written.
        """
        await self._do(
            f"write the directory {destination}",
            "write_tree",
            source=_here(source),
            destination=_absolute(destination),
        )

    async def download(self, source: str, destination: Path) -> None:
        """Write a file here from a file inside, with its mode; see `Communicator.download`.

        A failure leaves no half of a file.

        Raises:
            CommunicatorError: it could not be read.
            OSError: it could not be written here.
        """
        final = Path(os.path.realpath(destination))  # noqa: ASYNC240 (a few lstat calls)
        half = final.with_name(f".{final.name[:200]}.{secrets.token_hex(4)}")
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            await self._do(f"read {source}", "read_file", descriptor, source=_absolute(source))
            half.replace(final)
        except BaseException:
            with suppress(OSError):
                half.unlink()
            raise
        finally:
            os.close(descriptor)

    async def download_directory(self, source: str, destination: Path) -> None:
        """Write a directory's contents here from inside; see `Communicator.download_directory`.

        Links become what they lead to inside.

        Raises:
            CommunicatorError: it could not be read, or something in it; all the rest was copied then.
            OSError: the directory here could not be made.
        """
        made = not destination.exists()  # noqa: ASYNC240 (a few lstat calls)
        destination.mkdir(mode=0o700, parents=True, exist_ok=True)  # noqa: ASYNC240 (the same)
        descriptor = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            await self._do(f"read the directory {source}", "read_tree", descriptor, source=_absolute(source), made=made)
        finally:
            os.close(descriptor)

    async def _do(self, what: str, operation: str, *descriptors: int, **arguments: object) -> Any:
        try:
            return await self._jail.line.call(operation, *descriptors, **arguments)
        except OperationFailed as error:
            raise CommunicatorError(
                f"could not {what}",
                resource=str(self),
                why=str(error),
                hint="Does its directory exist in the image, and has its file system room?",
            ) from None


def _in_memory(contents: bytes) -> int:
    descriptor = os.memfd_create("upload", os.MFD_CLOEXEC)
    left = memoryview(contents)
    while left:
        left = left[os.write(descriptor, left) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _here(path: Path) -> str:
    return str(path.absolute())


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _variables() -> list[str]:
    return [f"{name}={value}" for name, value in PROGRAM_ENVIRONMENT.items() if name != "PATH"]
