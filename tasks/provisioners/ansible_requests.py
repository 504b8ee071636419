"""What Ansible asks of a build over its own connection plugin, and how the build's communicator answers it.

The plugin is `tasks.provisioners.ansible_connection.bakery`; how they talk is said there. A communicator has one stream
of output and no input, and Ansible needs three apart, whatever the bytes are. So what goes in is put there as a private
file, and what comes out goes through two, which the shell unlinks before the command begins: nothing is left of them,
however it ends. They come back as Base64 between lines that no command can guess, so that neither a terminal nor a
login shell with something to say spoils them.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import secrets
import shlex
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blocks.errors import BakeryError, CommunicatorError, ConnectionLost
from tasks.communicator import Communicator, must, read
from tasks.masking import masked

_LONGEST_REQUEST = 1 << 22
_SIDE_BY_SIDE = 6
"""Fewer than the sessions that an SSH server grants a connection (sshd_config(5), MaxSessions: 10)."""
_REMOVAL = 10

_COMMAND = """\
(umask 077 && mkdir -p {directory} && : > {files}.out && : > {files}.err) || exit 1
exec 3<{stdin} 4<{files}.out 5<{files}.err 6>{files}.out 7>{files}.err || exit 1
rm -f {files}.*
/bin/sh -c {command} <&3 >&6 2>&7 3<&- 4<&- 5<&- 6>&- 7>&-
code=$?
echo; echo {mark}; base64 <&4; echo {mark}; base64 <&5; echo {mark} $code"""


@dataclass
class Requests:
    """What Ansible asked so far, and how that went."""

    communicator: Communicator
    directory: str
    """In the system that is being made: private, for what goes in and out of commands."""
    user: str = ""
    """Who the communicator's commands run as."""
    commands: int = 0
    lost: ConnectionLost | None = None
    """Why the system could no longer be reached, if so."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_SIDE_BY_SIDE))

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request and answer it; or cancel what was asked when the other end hangs up, or at the end."""
        try:
            with suppress(OSError, EOFError):
                request = json.loads(await reader.readline())
                stdin = await reader.readexactly(request.get("stdin", 0))
                head, body = await self._unless_gone(request, stdin, reader)
                writer.write(json.dumps(head).encode() + b"\n" + body)
                await writer.drain()
        finally:
            writer.close()

    async def _unless_gone(
        self, request: dict[str, Any], stdin: bytes, reader: asyncio.StreamReader
    ) -> tuple[dict[str, Any], bytes]:
        work = asyncio.create_task(self._do(request, stdin))
        signs = {asyncio.create_task(reader.read(1)), asyncio.create_task(self._over.wait())}
        try:
            await asyncio.wait({work, *signs}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise EOFError
            return work.result()
        finally:
            # Cancelled once, whatever happens meanwhile: it needs its time to end a command there.
            for task in (work, *signs):
                task.cancel()
            await asyncio.wait({work, *signs})

    async def _do(self, request: dict[str, Any], stdin: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            async with self._room:
                match request["do"]:
                    case "exec":
                        return await self._execute(request["command"], stdin)
                    case "put":
                        here = Path(request["here"])
                        mode = stat.S_IMODE(here.stat().st_mode) & 0o777  # noqa: ASYNC240 (one lstat call)
                        await self.communicator.upload(here, request["there"], mode)
                    case "fetch":
                        await self.communicator.download(request["there"], Path(request["here"]))
        except (BakeryError, OSError) as error:
            if isinstance(error, ConnectionLost):
                self.lost = error
            return {"error": masked(str(error)), "lost": isinstance(error, ConnectionLost)}, b""
        return {}, b""

    async def _execute(self, command: str, stdin: bytes) -> tuple[dict[str, Any], bytes]:
        self.commands += 1
        files = f"{self.directory}/{next(self._numbers)}"
        if stdin:
            await self._put_in(stdin, f"{files}.in")
        mark = f"bakery-{secrets.token_hex(16)}"
        text = _COMMAND.format(
            directory=self.directory,
            files=files,
            stdin=f"{files}.in" if stdin else "/dev/null",
            command=shlex.quote(command),
            mark=mark,
        )
        said = bytearray()
        await self.communicator.run(text, said.extend)
        before, *parts = bytes(said).split(mark.encode())
        if len(parts) != 3 or not parts[2].strip().isdigit():
            raise CommunicatorError(
                "the command's end was not reported",
                resource="the system that is being made",
                why=before.decode(errors="replace").strip()[-2000:] or "something ended it",
                hint="Its shell must be able to run a command, and its /tmp must have room.",
            )
        try:
            stdout, stderr = map(base64.b64decode, parts[:2])
        except ValueError:
            raise CommunicatorError(
                "the command's output could not be read",
                resource="the system that is being made",
                why=parts[0].decode(errors="replace").strip()[-2000:],
                hint="The system needs a base64 program (coreutils, busybox).",
            ) from None
        return {"code": int(parts[2]), "stdout": len(stdout), "stderr": len(stderr)}, stdout + stderr

    async def _put_in(self, stdin: bytes, file: str) -> None:
        try:
            await self.communicator.upload(stdin, file, 0o600)
        except ConnectionLost:
            raise
        except CommunicatorError:  # a task may have emptied /tmp
            await self.begin()
            await self.communicator.upload(stdin, file, 0o600)

    async def begin(self) -> None:
        """Make the private directory, and learn who we are there.

        Raises:
            ProvisionerFailed: it could not be made.
        """
        said = await must(
            self.communicator, f"umask 077 && mkdir -p {self.directory} && id -un", what="make a directory in /tmp"
        )
        self.user = said.split()[-1]

    async def end(self, answers: set[asyncio.Task[None]]) -> None:
        """Cancel what is still on its way, and remove the private directory, if the system still answers."""
        self._over.set()
        if answers:
            await asyncio.wait(answers)
        with suppress(Exception):
            async with asyncio.timeout(_REMOVAL):
                await read(self.communicator, f"rm -rf {self.directory}")


@asynccontextmanager
async def answering(communicator: Communicator, socket: Path) -> AsyncIterator[Requests]:
    """Answer Ansible's requests at a Unix socket; at the end, cancel those that are still on their way.

    Args:
        communicator: How the system that is being made is reached.
        socket: Where to listen: in a directory that nobody else may enter.

    Raises:
        ProvisionerFailed: the system has no room for what goes in and out.
    """
    # Unguessable, so that nobody there can have made it first.
    requests = Requests(communicator, f"/tmp/.bakery-{secrets.token_hex(8)}")  # noqa: S108
    await requests.begin()
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(requests.answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        server = await asyncio.start_unix_server(connected, socket, limit=_LONGEST_REQUEST)
        try:
            yield requests
        finally:
            server.close()
    finally:
        await requests.end(tasks)
