"""Files by SFTP. All of it blocks; closing the client ends it."""

from __future__ import annotations

import io
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import paramiko
from paramiko.sftp import CMD_DATA, CMD_READ, CMD_STATUS, int64

from tasks.ssh.tree import HereDirectories, walk, write_here

_PIECE = 256 * 1024
_SPECIAL = stat.S_ISUID | stat.S_ISGID
_REQUEST = 32 * 1024
_ON_THEIR_WAY = 64
"""Requests of a download that are sent ahead. No more than their answers is held in memory."""


class Sftp:
    """File transfer over one SFTP session.

    Args:
        client: The session.
    """

    def __init__(self, client: paramiko.SFTPClient) -> None:
        self._client = client

    def close(self) -> None:
        """End the session, and whatever goes on over it."""
        self._client.close()

    def upload(self, source: Path | bytes, destination: str, mode: int) -> None:
        """Write a file there."""
        if isinstance(source, bytes):
            self._write(io.BytesIO(source), destination, mode)
        else:
            with source.open("rb") as here:
                self._write(here, destination, mode)

    def upload_directory(self, source: Path, destination: str) -> None:
        """Write a directory's contents there."""
        directories = list(walk(source))  # all of it is looked at before anything is written
        made: list[tuple[str, int]] = []
        for directory in directories:
            there = posixpath.join(destination, directory.inside) if directory.inside else destination
            try:
                self._client.mkdir(there, 0o700)
            except OSError:
                self._client.listdir_attr(there)  # it is there already, and keeps its mode; or this says what is wrong
            else:
                made.append((there, directory.mode))
            for name in directory.files:
                with (directory.path / name).open("rb") as here:
                    mode = stat.S_IMODE(os.fstat(here.fileno()).st_mode)
                    self._write(here, posixpath.join(there, name), mode)
        for there, mode in reversed(made):
            self._client.chmod(there, mode)

    def download(self, source: str, destination: Path) -> None:
        """Write a file here."""
        with self._client.open(source, "rb") as there:
            found = there.stat()
            if stat.S_ISDIR(found.st_mode or 0):
                raise OSError("it is a directory")
            with os.fdopen(write_here(destination, found.st_mode or 0o600), "wb") as here:
                size = 0
                for data in _ReadAhead(self._client, there, found.st_size or 0).pieces():
                    here.write(data)
                    size += len(data)
                # What has grown meanwhile, and files of the kernel, which say that they hold nothing.
                there.seek(size)
                while data := there.read(_REQUEST):
                    here.write(data)

    def download_directory(self, source: str, destination: Path) -> None:
        """Write a directory's contents here.

        Raises:
            OSError: something in it could not be copied; all the rest was.
        """
        left: list[str] = []
        directories = HereDirectories()
        self._fetch_directory(source, destination, (), directories, left)
        directories.finish()
        if left:
            raise OSError(f"{'; '.join(left)}. All else was copied")

    def _fetch_directory(
        self, source: str, destination: Path, above: tuple[str, ...], directories: HereDirectories, left: list[str]
    ) -> None:
        where = self._client.normalize(source)
        if where in above:
            left.append(f"{source} is a link to a directory that it is in")
            return
        directories.make(destination, self._client.stat(source).st_mode or 0o700)
        for entry in sorted(self._client.listdir(source)):
            if entry in ("", ".", "..") or "/" in entry:
                left.append(f"{source} holds an entry that is no name: {entry!r}")
                continue
            there = posixpath.join(source, entry)
            try:
                mode = self._client.stat(there).st_mode or 0  # of what a link leads to
                if stat.S_ISDIR(mode):
                    self._fetch_directory(there, destination / entry, (*above, where), directories, left)
                elif stat.S_ISREG(mode):
                    self.download(there, destination / entry)
                else:
                    left.append(f"{there} is neither a file nor a directory")
            except OSError as error:
                left.append(f"{there}: {error.strerror or error}")

    def _write(self, here: BinaryIO, destination: str, mode: int) -> None:
        sent = 0
        with self._client.open(destination, "wb") as there:
            there.set_pipelined(True)
            # Before the contents, which may be a secret.
            there.chmod(mode)
            while data := here.read(_PIECE):
                there.write(data)
                sent += len(data)
            # What went wrong with a pipelined write, such as a full disk, nobody else would tell.
            found = there.stat()
            if mode & _SPECIAL:
                there.chmod(mode)  # a write by others than root takes these bits away
        if stat.S_ISREG(found.st_mode or 0) and found.st_size != sent:
            raise OSError(f"of {sent:,} bytes, {found.st_size or 0:,} are there: is its file system full?")


class _ReadAhead:
    """A file's contents, asked for ahead.

    paramiko's own prefetch takes a moment without an outstanding request for its end: the rest then comes piece by
    piece, and what it had asked for heaps up in memory.
    """

    def __init__(self, client: paramiko.SFTPClient, there: paramiko.SFTPFile, size: int) -> None:
        self._client: Any = client
        self._handle = there.handle
        self._size = size
        self._asked: dict[int, tuple[int, int]] = {}
        self._answers: dict[int, bytes] = {}
        self._failed: Exception | None = None

    def pieces(self) -> Iterator[bytes]:
        """The contents in their order, up to the size or to where the file ends now."""
        place = ahead = 0
        while place < self._size:
            while ahead < self._size and len(self._asked) + len(self._answers) < _ON_THEIR_WAY:
                ahead += self._ask(ahead, min(_REQUEST, self._size - ahead))
            while place not in self._answers:
                if self._failed is not None and not self._asked:
                    if isinstance(self._failed, EOFError):
                        return
                    raise self._failed
                self._client._read_response()
            data = self._answers.pop(place)
            place += len(data)
            yield data

    def _ask(self, offset: int, length: int) -> int:
        number = self._client._async_request(self, CMD_READ, self._handle, int64(offset), length)
        self._asked[number] = (offset, length)
        return length

    def _async_response(self, kind: int, message: paramiko.Message, number: int) -> None:
        """What paramiko calls with each answer."""
        offset, length = self._asked.pop(number)
        try:
            if kind == CMD_STATUS:
                self._client._convert_status(message)
            data = message.get_string() if kind == CMD_DATA else b""
        except (OSError, EOFError) as error:
            self._failed = self._failed or error
            return
        self._answers[offset] = data
        if data and len(data) < length:  # a server may give less than it is asked for
            self._ask(offset + len(data), length - len(data))


def open_sftp(channel: paramiko.Channel, patience: float) -> Sftp:
    """Start SFTP on a channel.

    Args:
        channel: A new one.
        patience: Seconds. A guest without sftp-server may answer nothing at all.

    Raises:
        OSError, EOFError, paramiko.SSHException: the guest does not offer it.
    """
    channel.settimeout(patience)
    try:
        channel.invoke_subsystem("sftp")
        client = paramiko.SFTPClient(channel)
        channel.settimeout(None)
    except BaseException:
        with suppress(Exception):
            channel.close()
        raise
    return Sftp(client)
