"""A guest reached by SSH: the communicator of builders that start an instance."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import paramiko

from blocks.errors import CannotConnect, CommunicatorError, ConnectionLost, HostKeyChanged
from tasks.communicator import Output
from tasks.ssh.banner import connect_at_banner
from tasks.ssh.commands import LONGEST, Announced, ending
from tasks.ssh.log_in import LogInFailed, OtherHostKey, log_in
from tasks.ssh.plan import Credentials, LogInPlan
from tasks.ssh.scp import NoScp, Scp
from tasks.ssh.sftp import Sftp, open_sftp
from tasks.ssh.threads import in_thread
from tasks.ssh.transport import Transport, ended_by_server, keep_alive
from tasks.ssh.tunnels import Tunnels, serve_agent
from tasks.ssh.ways import Straight, ThroughBastion, ThroughProxy, Way, open_channel

T = TypeVar("T")

# Each failure is raised to us, with its reason; paramiko would also print it with a traceback.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_OPEN_CHANNEL = 30
_OPEN_SFTP = 30
_OPEN_SFTP_OR_SCP = 15
_SILENT_PEER = 30_000
_ENDING = 10
_ANNOUNCING = 2
_OLD_CONNECTION = 10


class SshGuest:
    """One guest, over one SSH connection at a time.

    Args:
        plan: How it is reached, and what lets us in.
    """

    def __init__(self, plan: LogInPlan) -> None:
        self.plan = plan
        self._host_key = plan.host_key
        self._bastion_key: paramiko.PKey | None = None
        self._paused = self._was_connected = False
        self._transport: Transport | None = None
        self._bastion: Transport | None = None
        self._tunnels: Tunnels | None = None
        self._files: Sftp | Scp | None = None
        self._copying = asyncio.Lock()

    def __str__(self) -> str:
        return f"{self.plan.credentials.user}@{self.plan.host} port {self.plan.port}"

    @property
    def host_key(self) -> paramiko.PKey | None:
        """The guest's host key: known ahead, or pinned at first contact."""
        return self._host_key

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands, as far as this end knows."""
        return self._transport is not None and self._transport.is_active()

    async def connect(self, timeout: float) -> None:
        """Connect, or connect again, within `timeout` seconds, and open the tunnels.

        Host keys, the bastion's too, are pinned at first contact where they are not known ahead. With
        `pause_before_connecting`, the first connection is dropped again, and made anew after the pause.

        Raises:
            CannotConnect: no server answered, none of the log-ins was let in, or a tunnel cannot be opened.
            HostKeyChanged: the server has another host key than it should have.
        """
        self.close()
        await self._enter(timeout)
        if self.plan.pause_before_connecting and not self._paused:
            self._paused = True
            self.close()
            await asyncio.sleep(self.plan.pause_before_connecting)
            await self._enter(timeout)

    async def _enter(self, timeout: float) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + timeout
        tries = refusals = 0
        failed: LogInFailed | None = None
        try:
            while True:
                tries += 1
                try:
                    way = await self._way(end - clock())
                    self._transport = await self._through(way, self.plan.credentials, self._host_key, end - clock())
                except LogInFailed as error:
                    failed = error
                    refusals += error.answered
                    if refusals == self.plan.handshake_attempts > 0 or clock() >= end:
                        raise self._refused(error, tries) from error
                except ConnectionLost as error:  # to the bastion
                    if clock() >= end:
                        raise CannotConnect(error.what, resource=error.resource, why=error.why) from error
                except OtherHostKey as error:
                    raise _other_host_key(
                        str(self), "guest", self._host_key, error, injected=self.plan.host_key is not None
                    ) from None
                except CannotConnect as error:
                    if failed is not None:
                        error.why += f"; before that, {failed.why}"
                    raise
                else:
                    break
                # The server may be up before the guest's set-up has put our key in place.
                await asyncio.sleep(max(0, min(0.25 * tries, 2, end - clock())))
            self._host_key = self._transport.get_remote_server_key()
            await self._open_tunnels(self._transport)
            # Not before: paramiko takes the answer to any request of this kind for that to the last one.
            self._keep_alive(self._transport)
            self._was_connected = True
        except BaseException:
            self.close()
            raise

    async def _way(self, left: float) -> Way:
        plan = self.plan
        if plan.proxy is not None:
            return ThroughProxy(plan.proxy, plan.host, plan.port)
        if plan.bastion is None:
            return Straight(plan.host, plan.port)
        if self._bastion is None or not self._bastion.is_active():
            bastion = plan.bastion
            try:
                self._bastion = await self._through(
                    Straight(bastion.host, bastion.port), bastion.credentials, self._bastion_key, left
                )
            except OtherHostKey as error:
                raise _other_host_key(str(bastion), "bastion", self._bastion_key, error) from None
            except CannotConnect as error:
                error.resource = str(bastion)
                error.hint = "Mend ssh_bastion_host and ssh_bastion_port: the guest is reached through it."
                raise
            except LogInFailed as error:
                if not error.answered and left > 0:
                    raise
                raise CannotConnect(
                    "the log-in to the bastion failed",
                    resource=str(bastion),
                    why=error.why,
                    hint="Mend the ssh_bastion_* options: it answers, and the guest is reached through it.",
                ) from error
            self._bastion_key = self._bastion.get_remote_server_key()
            self._keep_alive(self._bastion)
        return ThroughBastion(plan.bastion, self._bastion, plan.host, plan.port)

    async def _through(
        self, way: Way, credentials: Credentials, host_key: paramiko.PKey | None, left: float
    ) -> Transport:
        began = asyncio.get_running_loop().time()
        line = await connect_at_banner(way, max(left, 0.1))
        if isinstance(line, socket.socket):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # With the keep-alives, a peer that went silent is noticed even while we only wait for output.
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_PEER)
            line.setblocking(True)
        left -= asyncio.get_running_loop().time() - began
        return await log_in(line, credentials, self.plan, host_key, left)

    def _refused(self, error: LogInFailed, tries: int) -> CannotConnect:
        return CannotConnect(
            f"the SSH server answers, and {tries} log-in{'s' * (tries > 1)} failed",
            resource=str(self),
            why=error.why,
            hint=error.hint,
        )

    def _keep_alive(self, transport: Transport) -> None:
        interval, limit = self.plan.keep_alive_interval, self.plan.read_write_timeout
        if interval:
            keep_alive(transport, min(interval, limit / 3) if limit else interval)

    async def _open_tunnels(self, transport: Transport) -> None:
        local, remote = self.plan.local_tunnels, self.plan.remote_tunnels
        if local or remote:
            tunnels = self._tunnels = Tunnels(transport)
            patience = _OLD_CONNECTION if self._was_connected else 0
            await self._told(in_thread(lambda: tunnels.open(local, remote, patience), transport.close))

    async def run(self, command: str, output: Output) -> int:
        """Run a command by the user's shell; see `Communicator.run`.

        Over one connection to Dropbear (2022.83, `sesscheckclose`), commands do not run side by side: when one ends,
        the server closes each channel on which none has begun yet.

        One that is cancelled is killed in the guest, and with it all that descends from it or is in its session. That
        takes ten seconds at most; what then still runs goes on.
        """
        channel = await self._channel()
        announced = Announced()

        def work() -> int:
            self._prepare(channel)
            text = command.encode()
            # At a terminal there is no end of input that would not also be seen by what the command starts.
            if len(text) > LONGEST and not self.plan.pty:
                channel.exec_command(announced.long_command())
                channel.sendall(text)
                channel.shutdown_write()
            else:
                channel.exec_command(announced.command(command, input_ends=not self.plan.pty))
            while data := channel.recv(32 * 1024):
                if said := announced.feed(data):
                    output(said)
            if said := announced.rest():
                output(said)
            return channel.recv_exit_status()

        try:
            code = await self._told(in_thread(work, lambda: None))
        except BaseException as error:
            if not isinstance(error, ConnectionLost):
                await self._end(announced)
            raise
        finally:
            with suppress(Exception):
                channel.close()
        if code == -1 and not ended_by_server(channel):
            raise self._lost("while a command ran")
        return code

    def _prepare(self, channel: paramiko.Channel) -> None:
        channel.set_combine_stderr(True)
        if self.plan.pty:
            channel.get_pty("xterm", width=80, height=40)
        if self.plan.forward_agent:
            channel.request_forward_agent(serve_agent)

    async def _end(self, announced: Announced) -> None:
        transport = self._transport
        if transport is None or not transport.is_active():
            return
        with suppress(Exception):
            async with asyncio.timeout(_ENDING):
                await in_thread(lambda: announced.known.wait(_ANNOUNCING), lambda: None)
                if announced.process is None:
                    return
                command = ending(announced.process)
                channel = await open_channel(lambda: transport.open_session(timeout=_ENDING))
                try:
                    await in_thread(lambda: self._say(channel, command), channel.close)
                finally:
                    channel.close()

    def _say(self, channel: paramiko.Channel, command: str) -> None:
        self._prepare(channel)  # what the command needed, such as a terminal for sudo, its end needs, too
        channel.exec_command(command)
        while channel.recv(1024):
            pass

    async def upload(self, source: Path | bytes, destination: str, mode: int) -> None:
        """Write a file there; see `Communicator.upload`."""
        await self._copy(lambda files: files.upload(source, destination, mode), f"write {destination}")

    async def upload_directory(self, source: Path, destination: str) -> None:
        """Write a directory's contents there; see `Communicator.upload_directory`.

        Links are followed, to files and to directories.
        """
        await self._copy(
            lambda files: files.upload_directory(source, destination), f"write the directory {destination}"
        )

    async def download(self, source: str, destination: Path) -> None:
        """Write a file here; see `Communicator.download`."""
        await self._copy(lambda files: files.download(source, destination), f"read {source}")

    async def download_directory(self, source: str, destination: Path) -> None:
        """Write a directory's contents here; see `Communicator.download_directory`.

        Links are followed, to files and to directories. What cannot be copied, such as a socket, is an error once all
        else has been.
        """
        await self._copy(lambda files: files.download_directory(source, destination), f"read the directory {source}")

    def close(self) -> None:
        """Drop the connection and its tunnels, if there is one."""
        tunnels, self._tunnels = self._tunnels, None
        if tunnels is not None:
            tunnels.close()
        self._files = None
        for transport in (self._transport, self._bastion):
            if transport is not None:
                with suppress(Exception):
                    transport.close()
        self._transport = self._bastion = None

    async def _channel(self) -> paramiko.Channel:
        transport = self._standing()
        return await self._told(open_channel(lambda: transport.open_session(timeout=_OPEN_CHANNEL)))

    async def _copy(self, work: Callable[[Sftp | Scp], None], what: str) -> None:
        # One session carries one copy at a time: two that read answers would take each other's.
        async with self._copying:
            files = await self._transfer()
            try:
                await self._told(in_thread(lambda: work(files), files.close))
            except NoScp:
                self._files = None
                raise self._no_transfer("scp", "openssh-client") from None
            except OSError as error:
                raise CommunicatorError(
                    f"could not {what}",
                    resource=str(self),
                    why=error.strerror or str(error) or type(error).__name__,
                    hint=f"Does its directory exist, has it room, and may {self.plan.credentials.user} use it?",
                ) from error
            except BaseException:
                self._files = None
                raise

    async def _transfer(self) -> Sftp | Scp:
        if self._files is None:
            transport = self._standing()
            method = self.plan.transfer_method
            if method != "scp":
                channel = await self._channel()
                patience = _OPEN_SFTP if method == "sftp" else _OPEN_SFTP_OR_SCP
                try:
                    self._files = await in_thread(lambda: open_sftp(channel, patience), channel.close)
                except (OSError, paramiko.SSHException, EOFError) as error:
                    if not self.is_connected:
                        raise self._lost(str(error) or type(error).__name__) from error
                    if method == "sftp":
                        raise self._no_transfer("SFTP", "openssh-sftp-server") from error
            if self._files is None:
                self._files = Scp(lambda: transport.open_session(timeout=_OPEN_CHANNEL))
        return self._files

    def _no_transfer(self, what: str, package: str) -> CommunicatorError:
        other = f", or set ssh_file_transfer_method to {'scp' if what == 'SFTP' else 'sftp'}"
        offered = what if self.plan.transfer_method else "neither SFTP nor scp"
        return CommunicatorError(
            f"the guest does not offer {offered}" if self.plan.transfer_method else f"the guest offers {offered}",
            resource=str(self),
            hint=f"Install it in the image (Debian: {package}){other if self.plan.transfer_method else ''}.",
        )

    async def _told(self, work: Awaitable[T]) -> T:
        """Do what talks to the guest's server; what goes wrong is said in our words."""
        try:
            return await work
        except (EOFError, paramiko.SSHException, ConnectionError) as error:
            if not self.is_connected:
                raise self._lost(str(error) or type(error).__name__) from error
            raise CommunicatorError("the guest's SSH server refused", resource=str(self), why=str(error)) from error

    def _standing(self) -> Transport:
        if self._transport is None or not self._transport.is_active():
            raise self._lost("it is no longer there")
        return self._transport

    def _lost(self, why: str) -> ConnectionLost:
        reason = self._transport.get_exception() if self._transport is not None else None
        return ConnectionLost(
            "the SSH connection broke",
            resource=str(self),
            why=f"{why}: {reason}" if reason is not None and str(reason) else why,
            hint="If the step restarts the guest or its network on purpose, use the reboot provisioner.",
        )


def _other_host_key(
    resource: str, which: str, known: paramiko.PKey | None, error: OtherHostKey, *, injected: bool = False
) -> HostKeyChanged:
    was = known.fingerprint if known is not None else "unknown"
    if injected:
        return HostKeyChanged(
            "the guest's host key is another than the one that it was given",
            resource=resource,
            why=f"was to be {was}, is {error.key.fingerprint}",
            hint="Either the image takes no host key from its user data (cloud-init does), and ssh_host_key: pinned is "
            "for it; or something else answers at this address.",
        )
    return HostKeyChanged(
        f"the {which}'s host key is another than at first contact",
        resource=resource,
        why=f"was {was}, is {error.key.fingerprint}",
        hint="Either a provisioner made new host keys, or something else answers at this address.",
    )
