"""The builder's end of the line to a keeper (`tasks.chroot.warden`): starting one, asking it, ending with it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from blocks.errors import CommunicatorError, ConnectionLost
from tasks.communicator import Output

_PROJECT = Path(__file__).parents[2]
_LONGEST_MESSAGE = 1 << 20
_CHUNK = 64 * 1024
_START = 20
_END = 10
_SO_SNDBUFFORCE = 32

PROGRAM = (sys.executable, "-P", "-S", "-X", "utf8", "-m", "tasks.chroot.warden")
PROGRAM_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(_PROJECT)}
"""Nothing of the builder's: a jail's processes can read its first process's environment."""


class OperationFailed(Exception):
    """An operation in the jail did not succeed.

    Args:
        why: The reason, in the kernel's or the program's words.
        path: The path it is about.
        number: The error's number (errno(3)), if it has one.
    """

    def __init__(self, why: str, path: str | None, number: int | None) -> None:
        super().__init__(f"{path}: {why}" if path else why)
        self.why = why
        self.path = path
        self.number = number


class Line:
    """A keeper and the socket to it.

    The keeper's life is this process's: it ends when the socket's last copy is closed and when the thread that called
    `start` ends (PR_SET_PDEATHSIG), whichever comes first; so `start` belongs in a thread that lives as long as the
    build. Neither needs anything from this process, which may have been killed. Its end is awaited by a pidfd
    (pidfd_open(2)), so no child watcher of asyncio is needed either.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.first_process = 0
        """The jail's first process, as this host numbers it."""
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0

    async def start(self, kind: str, *arguments: str) -> None:
        """Start the keeper.

        Raises:
            CommunicatorError: the kernel refused.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for end in (ours, theirs):
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * _LONGEST_MESSAGE)
            ours.setblocking(False)
            # Started by hand and not by asyncio, whose child watcher may use another thread or be gone.
            try:
                self._process = subprocess.Popen(  # noqa: ASYNC220 (a millisecond, and see above)
                    [*PROGRAM, kind, str(theirs.fileno()), str(os.getpid()), *arguments],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=PROGRAM_ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        self._socket = ours
        loop = asyncio.get_running_loop()
        self._waiting[0] = loop.create_future()
        loop.add_reader(ours, self._heard)
        try:
            async with asyncio.timeout(_START):
                answer = await self._waiting[0]
        except BaseException as error:
            await self._quietly_close()
            if isinstance(error, TimeoutError):
                raise CommunicatorError(f"no jail within {_START} s", resource=self.name) from None
            raise
        if "why" in answer:
            await self._quietly_close()
            refused = answer["errno"] in (errno.EPERM, errno.EACCES)
            raise CommunicatorError(
                "the kernel did not give us a jail",
                resource=self.name,
                why=answer["why"],
                hint="Builds in a chroot need root's rights (CAP_SYS_ADMIN): run as root, or in a privileged container."
                if refused
                else "Is there room in the process table and in /proc/sys/user/max_*_namespaces?",
            )
        self.first_process = answer["value"]

    async def close(self) -> None:
        """End the keeper and all that it keeps, and wait until they are gone. Repeatable."""
        process, self._process = self._process, None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        self._forget()
        if process is not None:
            try:
                if not await _ended(process, _END):
                    process.kill()
                    await _ended(process, _END)
            except asyncio.CancelledError:
                process.kill()
                _bury_later(process)
                raise

    async def _quietly_close(self) -> None:
        with suppress(Exception):
            await self.close()

    async def call(self, operation: str, *descriptors: int, **arguments: object) -> Any:
        """Have the keeper do something, and return what came of it. The descriptors stay the caller's.

        Raises:
            OperationFailed: it did not succeed.
            ConnectionLost: the keeper is gone.
        """
        code, told = await self._operate(operation, descriptors, arguments, None)
        if told is None or "why" in told:
            raise _failure(told) if told else OperationFailed(f"it was killed (code {code})", None, None)
        return told["value"]

    async def ask(self, question: str, **arguments: object) -> Any:
        """Have the keeper itself answer something."""
        number, answer = self._expect()
        await self._send(number, question, arguments, ())
        return (await answer)["value"]

    async def run(
        self,
        argv: Sequence[str],
        output: Output,
        *,
        inside: bool,
        directory: str = "/",
        environment: dict[str, str] | None = None,
    ) -> int:
        """Run a command, hand over its output as it comes, and return its exit code; -1 if a signal ended it.

        Cancelled, it and all that it started are killed before the keeper does anything else.

        Args:
            argv: Program and arguments.
            output: Takes the output, standard error included.
            inside: Whether it runs inside the jail's root, or beside it: in its mount and PID namespace, with the
                host's files.
            directory: Its working directory.
            environment: Its whole environment; by default the one of commands inside.

        Raises:
            OperationFailed: the program could not be started.
            ConnectionLost: the keeper is gone.
        """
        arguments = {"argv": list(argv), "inside": inside, "directory": directory, "environment": environment}
        code, told = await self._operate("run", (), arguments, output)
        if told is not None:
            raise _failure(told)
        return code

    async def _operate(
        self, operation: str, descriptors: Sequence[int], arguments: dict[str, object], output: Output | None
    ) -> tuple[int, dict[str, Any] | None]:
        number, ended = self._expect()
        told = bytearray()

        def fail(error: Exception) -> None:
            if not ended.done():
                ended.set_exception(error)

        streams = [_Stream(told.extend, fail)]
        if output is not None:
            streams.append(_Stream(output, fail))
        try:
            given = [stream.writing for stream in streams]
            await self._send(number, operation, arguments, [*given[:1], *descriptors, *given[1:]])
            for stream in streams:
                stream.begin()
            answer = await ended
            for stream in streams:
                stream.drain()
            if ended.exception() is not None:
                await ended
        except BaseException:
            self._kill(number)
            raise
        finally:
            self._waiting.pop(number, None)
            for stream in streams:
                stream.close()
        return answer["code"], json.loads(told.decode(errors="surrogateescape")) if told else None

    def _expect(self) -> tuple[int, asyncio.Future[dict[str, Any]]]:
        self._number += 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = future
        return self._number, future

    async def _send(
        self, number: int, operation: str, arguments: dict[str, object], descriptors: Sequence[int]
    ) -> None:
        request = {"id": number, "op": operation, "args": arguments}
        message = json.dumps(request, ensure_ascii=False).encode(errors="surrogateescape")
        while True:
            if self._socket is None:
                raise self._lost()
            try:
                socket.send_fds(self._socket, [message], list(descriptors))
            except BlockingIOError:
                await asyncio.sleep(0.005)
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    raise OperationFailed("it is too long", None, error.errno) from None
                raise self._lost() from error
            else:
                return

    def _kill(self, number: int) -> None:
        # With a keeper that is gone all is gone. A socket that is full for now must not save a command from its end.
        if self._socket is not None:
            message = json.dumps({"id": 0, "op": "kill", "args": {"id": number}}).encode()
            try:
                socket.send_fds(self._socket, [message], [])
            except BlockingIOError:
                asyncio.get_running_loop().call_later(0.005, self._kill, number)
            except OSError:
                return

    def _heard(self) -> None:
        assert self._socket is not None
        try:
            message = self._socket.recv(_LONGEST_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self._forget()
            return
        answer = json.loads(message)
        future = self._waiting.pop(answer["id"], None)
        if future is not None and not future.done():
            future.set_result(answer)

    def _forget(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(self._lost())
                future.exception()  # it may be that nobody waits for it any more

    def _lost(self) -> ConnectionLost:
        return ConnectionLost(
            "the jail is gone",
            resource=self.name,
            why="it was closed, or something ended its keeper",
            hint="Did the host run out of memory (dmesg)?",
        )


class _Stream:
    """The reading end of a pipe, read as the event loop finds something in it."""

    def __init__(self, take: Callable[[bytes], object], fail: Callable[[Exception], None]) -> None:
        self._take = take
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._reading, self.writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reading, False)

    def begin(self) -> None:
        os.close(self.writing)
        self.writing = -1
        self._loop.add_reader(self._reading, self._read)

    def drain(self) -> None:
        """Take what has been written so far. A daemon may hold the other end and never be done."""
        for _ in range(_LONGEST_MESSAGE // _CHUNK):
            if self._reading < 0 or not self._read():
                return

    def close(self) -> None:
        if self._reading >= 0:
            self._loop.remove_reader(self._reading)
            os.close(self._reading)
            self._reading = -1
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def _read(self) -> bool:
        try:
            data = os.read(self._reading, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        try:
            self._take(data)
        except Exception as error:
            self.close()
            self._fail(error)
            return False
        return True


def _failure(told: dict[str, Any]) -> OperationFailed:
    return OperationFailed(told["why"], told["path"], told["errno"])


def _bury_later(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(process.pid)

    def bury() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        process.poll()

    loop.add_reader(descriptor, bury)


def _settle(gone: asyncio.Future[None]) -> None:
    if not gone.done():
        gone.set_result(None)


async def _ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    loop = asyncio.get_running_loop()
    if process.poll() is not None:
        return True
    descriptor = os.pidfd_open(process.pid)
    gone: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _settle, gone)
    try:
        async with asyncio.timeout(timeout):
            await gone
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.poll() is not None
