"""Files by scp: the protocol of OpenSSH's `scp -t` and `scp -f` (scp.c), over one channel each time. All of it blocks.

A file is `C0644 SIZE NAME` and its contents, a directory `D0755 0 NAME`, what is in it, and `E`. Each message gets one
byte as its answer: 0 for good, 1 or 2 for an error whose text follows.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import paramiko

from tasks.ssh.tree import Directory, HereDirectories, walk, write_here

_PIECE = 64 * 1024
_AT_ONCE = 100
_MISSING = 127
_SPECIAL = stat.S_ISUID | stat.S_ISGID
_HEADER = re.compile(rb"([CD])([0-7]{4,5}) (\d+) ([^/\n]+)")


class NoScp(Exception):
    """The guest has no scp."""


class Scp:
    """File transfer by the guest's own scp.

    Args:
        open_channel: Opens a channel for one command.
    """

    def __init__(self, open_channel: Callable[[], paramiko.Channel]) -> None:
        self._open_channel = open_channel
        self._channel: paramiko.Channel | None = None

    def close(self) -> None:
        """End whatever goes on."""
        if self._channel is not None:
            self._channel.close()

    def upload(self, source: Path | bytes, destination: str, mode: int) -> None:
        """Write a file there."""
        name = shlex.quote(_no_flag(destination))
        # Into a directory, scp would write a file of the same name. A file that is there gets its mode before the
        # contents, which may be a secret; a new one is made with it.
        command = (
            f"if [ -d {name} ]; then printf '\\001it is a directory\\n'; exit 1; fi; "
            f"[ ! -f {name} ] || chmod {mode | stat.S_IWUSR:o} {name} 2>/dev/null; scp -p -t {name}"
        )
        if mode & _SPECIAL:  # a write by others than root takes these bits away
            command += f" && chmod {mode:o} {name}"
        with self._talk(command) as talk:
            talk.answered()
            if isinstance(source, bytes):
                talk.send_file(io.BytesIO(source), len(source), mode, "file")
            else:
                with source.open("rb") as here:
                    talk.send_file(here, os.fstat(here.fileno()).st_size, mode, "file")
            talk.finish()

    def upload_directory(self, source: Path, destination: str) -> None:
        """Write a directory's contents there."""
        directories = list(walk(source))  # all of it is looked at before anything is written
        made = self._make_directories(directories, destination)
        modes: list[tuple[str, int]] = []
        for directory in directories:
            if not directory.files:
                continue
            with self._talk(f"exec scp -p -d -t {shlex.quote(_below(destination, directory))}") as talk:
                talk.answered()
                for name in directory.files:
                    with (directory.path / name).open("rb") as here:
                        found = os.fstat(here.fileno())
                        talk.send_file(here, found.st_size, stat.S_IMODE(found.st_mode), name)
                        if found.st_mode & _SPECIAL:
                            path = f"{_below(destination, directory).rstrip('/')}/{name}"
                            modes.append((path, stat.S_IMODE(found.st_mode)))
                talk.finish()
        modes += [(_below(destination, directory), directory.mode) for directory in reversed(made)]
        for start in range(0, len(modes), _AT_ONCE):
            some = modes[start : start + _AT_ONCE]
            self._run("".join(f"chmod {mode:o} {shlex.quote(path)} || exit 1\n" for path, mode in some))

    def download(self, source: str, destination: Path) -> None:
        """Write a file here."""
        with self._talk(f"exec scp -f {shlex.quote(_no_flag(source))}") as talk:
            talk.agree()
            message = talk.message()
            if message is None:
                raise OSError("scp sent nothing")
            _, mode, size, _ = _read_header(message)
            talk.receive_file(destination, mode, size)

    def download_directory(self, source: str, destination: Path) -> None:
        """Write a directory's contents here.

        Raises:
            OSError: something in it could not be copied; all the rest was.
        """
        left: list[str] = []
        directories = HereDirectories()
        with self._talk(f"exec scp -r -f {shlex.quote(_no_flag(source))}", left) as talk:
            talk.agree()
            where: list[Path] = []
            while (message := talk.message()) is not None:
                if message == b"E":
                    where.pop()
                    talk.agree()
                    continue
                kind, mode, size, name = _read_header(message)
                path = where[-1] / name if where else destination
                if kind == "D":
                    directories.make(path, mode)
                    where.append(path)
                    talk.agree()
                elif where:
                    talk.receive_file(path, mode, size)
                else:
                    raise OSError("it is no directory")
        directories.finish()
        if left:
            raise OSError(f"{'; '.join(left)}. All else was copied")

    def _make_directories(self, directories: list[Directory], destination: str) -> list[Directory]:
        """Make those that are not there, and return them."""
        made = []
        for start in range(0, len(directories), _AT_ONCE):
            some = directories[start : start + _AT_ONCE]
            script = "".join(
                f"[ -d {path} ] || {{ mkdir -m 700 {path} && echo {number}; }} || exit 1\n"
                for number, path in enumerate(shlex.quote(_below(destination, directory)) for directory in some)
            )
            made += [some[int(number)] for number in self._run(script).split()]
        return made

    def _run(self, script: str) -> str:
        with self._command(f"exec 2>&1\n{script}") as channel:
            said = channel.makefile("rb").read().decode(errors="replace")
            if channel.recv_exit_status() != 0:
                raise OSError(said.strip() or "a command failed")
        return said

    @contextmanager
    def _talk(self, command: str, left: list[str] | None = None) -> Iterator[_Talk]:
        with self._command(command) as channel:
            talk = _Talk(channel, left)
            try:
                yield talk
                while channel.recv(_PIECE):
                    pass
            except EOFError:
                if channel.recv_exit_status() == _MISSING:
                    raise NoScp from None
                raise
            if channel.recv_exit_status() != 0 and not left:
                raise OSError("scp failed and did not say why")

    @contextmanager
    def _command(self, command: str) -> Iterator[paramiko.Channel]:
        channel = self._channel = self._open_channel()
        try:
            channel.exec_command(f"exec /bin/sh -c {shlex.quote(command)}")
            yield channel
        finally:
            self._channel = None
            with suppress(Exception):
                channel.close()


class _Talk:
    """One conversation with an scp. `left` collects what it could not read; without it, that is an error."""

    def __init__(self, channel: paramiko.Channel, left: list[str] | None) -> None:
        self._channel = channel
        self._left = left

    def agree(self) -> None:
        self._channel.sendall(b"\0")

    def answered(self) -> None:
        """Read one answer.

        Raises:
            OSError: it is an error.
        """
        answer = self._byte()
        if answer != b"\0":
            raise OSError(self._text(answer))

    def message(self) -> bytes | None:
        """The next message without its newline; None at the end."""
        while True:
            try:
                first = self._byte()
            except EOFError:
                if self._channel.recv_exit_status() in (_MISSING, -1):
                    raise
                return None
            if first not in (b"\1", b"\2"):
                return first + self._line()
            text = self._text(first)
            if self._left is None or first == b"\2":
                raise OSError(text)
            self._left.append(text)

    def send_file(self, here: BinaryIO, size: int, mode: int, name: str) -> None:
        self._channel.sendall(f"C{mode:04o} {size} ".encode() + os.fsencode(name) + b"\n")
        self.answered()
        rest = size
        while rest:
            data = here.read(min(rest, _PIECE))
            if not data:
                raise OSError(f"the file here became shorter while it was copied, by {rest:,} bytes")
            self._channel.sendall(data)
            rest -= len(data)
        self.agree()
        self.answered()

    def finish(self) -> None:
        """Say that no more files come, which ends `scp -t`.

        `scp -f` ends by itself, and may have given its channel back by the time that anything more is sent.
        """
        self._channel.shutdown_write()

    def receive_file(self, destination: Path, mode: int, size: int) -> None:
        with os.fdopen(write_here(destination, mode), "wb") as here:
            self.agree()
            rest = size
            while rest:
                data = self._channel.recv(min(rest, _PIECE))
                if not data:
                    raise EOFError
                here.write(data)
                rest -= len(data)
        self.answered()
        self.agree()

    def _byte(self) -> bytes:
        data = self._channel.recv(1)
        if not data:
            raise EOFError
        return data

    def _line(self) -> bytes:
        line = b""
        while (byte := self._byte()) != b"\n":
            line += byte
        return line

    def _text(self, first: bytes) -> str:
        # A shell's own complaint begins with a letter.
        return ((b"" if first < b" " else first) + self._line()).decode(errors="replace").removeprefix("scp: ").strip()


def _read_header(message: bytes) -> tuple[str, int, int, str]:
    found = _HEADER.fullmatch(message)
    # A name that leads elsewhere is none that an honest server sends.
    if found is None or found[4] == b"..":
        raise OSError(f"scp sent what is no file: {message[:200]!r}")
    return found[1].decode(), int(found[2], 8), int(found[3]), os.fsdecode(found[4])


def _below(destination: str, directory: Directory) -> str:
    top = _no_flag(destination)
    return f"{top.rstrip('/')}/{directory.inside}" if directory.inside else top


def _no_flag(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path
