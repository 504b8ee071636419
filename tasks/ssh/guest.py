"""A guest reached by SSH: the communicator of builders that start an instance."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

import paramiko

from blocks.errors import CannotConnect, CommunicatorError, ConnectionLost, HostKeyChanged
from tasks.communicator import Output
from tasks.ssh.banner import connect_at_banner
from tasks.ssh.threads import in_thread

T = TypeVar("T")

# Each failure is raised to us, with its reason; paramiko would also print it with a traceback.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_HANDSHAKE = 60
_OPEN_CHANNEL = 30
_SILENT_PEER = 30_000
_KEEP_ALIVE = 5


class SshGuest:
    """One guest, over one SSH connection at a time.

    Args:
        address: Where it answers.
        port: Its SSH port.
        user: Who we log in as.
        key: The private key that lets us in.
        handshake_attempts: How many log-ins are tried once the server answers.
    """

    def __init__(self, address: str, port: int, user: str, key: paramiko.PKey, *, handshake_attempts: int = 10) -> None:
        self.address = address
        self.port = port
        self.user = user
        self._key = key
        self._attempts = handshake_attempts
        self._host_key: paramiko.PKey | None = None
        self._transport: paramiko.Transport | None = None
        self._sftp: paramiko.SFTPClient | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.address} port {self.port}"

    async def connect(self, timeout: float) -> None:
        """Connect, or connect again, within `timeout` seconds.

        The host key is pinned at first contact.

        Raises:
            CannotConnect: no server answered, or none of the log-ins was let in.
            HostKeyChanged: the server has another host key than at first contact.
        """
        self.close()
        end = asyncio.get_running_loop().time() + timeout
        for attempt in range(1, self._attempts + 1):
            left = end - asyncio.get_running_loop().time()
            connection = await connect_at_banner(self.address, self.port, max(left, 0.1))
            try:
                self._transport = await self._log_in(connection, max(left, 1))
            except HostKeyChanged:
                raise
            except (paramiko.SSHException, EOFError, OSError) as error:
                if attempt == self._attempts or asyncio.get_running_loop().time() >= end:
                    raise self._refused(error, attempt) from error
                # The server may be up before the guest's set-up has put our key in place.
                await asyncio.sleep(min(0.25 * attempt, 2))
            else:
                return

    async def _log_in(self, connection: socket.socket, left: float) -> paramiko.Transport:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # With the keep-alives below, a peer that went silent is noticed even while we only wait for output.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_PEER)
        connection.setblocking(True)
        transport: paramiko.Transport | None = None

        def work() -> paramiko.Transport:
            nonlocal transport
            transport = paramiko.Transport(connection)
            transport.auth_timeout = transport.banner_timeout = min(left, _HANDSHAKE)
            transport.start_client(timeout=min(left, _HANDSHAKE))
            self._check_host_key(transport.get_remote_server_key())
            transport.auth_publickey(self.user, self._key)
            transport.set_keepalive(_KEEP_ALIVE)
            return transport

        def cut() -> None:
            connection.close()
            if transport is not None:
                transport.close()

        try:
            return await in_thread(work, cut)
        except Exception:
            cut()
            raise

    def _check_host_key(self, key: paramiko.PKey) -> None:
        if self._host_key is None:
            self._host_key = key
        elif self._host_key != key:
            raise HostKeyChanged(
                "the guest's host key is another than at first contact",
                resource=str(self),
                why=f"was {self._host_key.fingerprint}, is {key.fingerprint}",
                hint="Either a provisioner made new host keys, or something else answers at this address.",
            )

    def _refused(self, error: Exception, attempts: int) -> CannotConnect:
        if isinstance(error, paramiko.BadAuthenticationType):
            why = f"the server takes {', '.join(error.allowed_types)}; a public key was offered"
        elif isinstance(error, paramiko.AuthenticationException):
            why = "the server does not let this user in with this key"
        else:
            why = f"the handshake failed: {error or type(error).__name__}"
        return CannotConnect(
            f"the SSH server answers, and {attempts} log-ins failed",
            resource=str(self),
            why=why,
            hint="Is ssh_username the image's own user, and does the image take keys from its metadata (cloud-init)?",
        )

    async def run(self, command: str, output: Output) -> int:
        """Run a command by the user's shell; see `Communicator.run`."""
        channel = await self._channel()

        def work() -> int:
            channel.set_combine_stderr(True)
            channel.exec_command(command)
            channel.shutdown_write()
            while data := channel.recv(32 * 1024):
                output(data)
            return channel.recv_exit_status()

        try:
            code = await self._blocking(work, channel.close)
        finally:
            with suppress(Exception):
                channel.close()
        if code == -1 and not self.is_connected:
            raise self._lost("while a command ran")
        return code

    async def upload(self, source: Path | bytes, destination: str, mode: int) -> None:
        """Write a file there, by SFTP; see `Communicator.upload`."""
        sftp = await self._files()

        def work() -> None:
            if isinstance(source, bytes):
                _write(sftp, io.BytesIO(source), destination, mode)
            else:
                with source.open("rb") as here:
                    _write(sftp, here, destination, mode)

        await self._file_work(work, f"write {destination}")

    async def upload_directory(self, source: Path, destination: str) -> None:
        """Write a directory's contents there, by SFTP; see `Communicator.upload_directory`."""
        sftp = await self._files()

        def make(directory: str, mode: int) -> None:
            try:
                sftp.mkdir(directory)
            except OSError:
                sftp.listdir_attr(directory)  # it is there already, and keeps its mode; or this says what is wrong
            else:
                sftp.chmod(directory, mode)

        def work() -> None:
            for root, directories, names in os.walk(source):
                directories.sort()
                here = Path(root)
                there = destination.rstrip("/") + ("" if here == source else f"/{here.relative_to(source).as_posix()}")
                make(there or "/", stat.S_IMODE(here.stat().st_mode))
                for name in sorted(names):
                    with (here / name).open("rb") as file:
                        _write(sftp, file, f"{there}/{name}", stat.S_IMODE((here / name).stat().st_mode))

        await self._file_work(work, f"write the directory {destination}")

    async def download(self, source: str, destination: Path) -> None:
        """Write a file here, by SFTP; see `Communicator.download`."""
        sftp = await self._files()

        def work() -> None:
            with sftp.open(source, "rb") as there, destination.open("wb") as here:
                there.prefetch()
                while data := there.read(256 * 1024):
                    here.write(data)

        await self._file_work(work, f"read {source}")

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands, as far as this end knows."""
        return self._transport is not None and self._transport.is_active()

    def close(self) -> None:
        """Drop the connection, if there is one."""
        transport, self._transport, self._sftp = self._transport, None, None
        if transport is not None:
            with suppress(Exception):
                transport.close()

    async def _channel(self) -> paramiko.Channel:
        transport = self._standing()
        return await self._blocking(lambda: transport.open_session(timeout=_OPEN_CHANNEL), transport.close)

    async def _files(self) -> paramiko.SFTPClient:
        if self._sftp is None:
            channel = await self._channel()

            def work() -> paramiko.SFTPClient:
                # A guest without sftp-server answers nothing at all.
                channel.settimeout(_OPEN_CHANNEL)
                channel.invoke_subsystem("sftp")
                sftp = paramiko.SFTPClient(channel)
                channel.settimeout(None)
                return sftp

            try:
                self._sftp = await in_thread(work, channel.close)
            except (OSError, paramiko.SSHException, EOFError) as error:
                channel.close()
                if not self.is_connected:
                    raise self._lost(str(error) or type(error).__name__) from error
                raise CommunicatorError(
                    "the guest does not offer SFTP",
                    resource=str(self),
                    why=str(error) or type(error).__name__,
                    hint="Install an sftp-server in the image (Debian: openssh-sftp-server).",
                ) from error
        return self._sftp

    async def _file_work(self, work: Callable[[], T], what: str) -> T:
        sftp = await self._files()
        try:
            return await self._blocking(work, sftp.close)
        except OSError as error:
            raise CommunicatorError(
                f"could not {what}",
                resource=str(self),
                why=error.strerror or str(error) or type(error).__name__,
                hint=f"Does its directory exist, has it room, and may {self.user} write there?",
            ) from error

    async def _blocking(self, work: Callable[[], T], cut: Callable[[], object]) -> T:
        try:
            return await in_thread(work, cut)
        except (EOFError, paramiko.SSHException, ConnectionError) as error:
            if not self.is_connected:
                raise self._lost(str(error) or type(error).__name__) from error
            raise CommunicatorError("the guest's SSH server refused", resource=str(self), why=str(error)) from error

    def _standing(self) -> paramiko.Transport:
        if self._transport is None or not self._transport.is_active():
            raise self._lost("it is no longer there")
        return self._transport

    def _lost(self, why: str) -> ConnectionLost:
        return ConnectionLost(
            "the SSH connection broke",
            resource=str(self),
            why=why,
            hint="If the step restarts the guest or its network on purpose, use the reboot provisioner.",
        )


def _write(sftp: paramiko.SFTPClient, here: BinaryIO, destination: str, mode: int) -> None:
    sent = 0
    with sftp.open(destination, "wb") as there:
        there.set_pipelined(True)
        # Before the contents, which may be a secret.
        there.chmod(mode)
        while data := here.read(256 * 1024):
            there.write(data)
            sent += len(data)
        # What went wrong with a pipelined write, such as a full disk, nobody else would tell.
        found = there.stat()
    if stat.S_ISREG(found.st_mode or 0) and found.st_size != sent:
        raise OSError(f"of {sent:,} bytes, {found.st_size or 0:,} are there: is its file system full?")
