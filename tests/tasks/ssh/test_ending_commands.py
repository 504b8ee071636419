"""A command that is given up is gone from the guest, with all that it started; and how a command ended is certain."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import paramiko
import pytest

from blocks.errors import ConnectionLost
from tasks.communicator import read
from tasks.ssh.guest import SshGuest
from tasks.ssh.plan import Credentials, LogInPlan, OfferedKey
from tests.emulators.machines.support import processes
from tests.tasks.ssh.conftest import Kitchen, Oven
from tests.tasks.ssh.openssh import PASSWORD, Sshd
from tests.tasks.ssh.servers import Door, listening

LET_IN: dict[str, Any] = {"ssh_password": {"env": "PASSWORD"}}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)


async def until(condition: Callable[[], bool], deadline: float = 30) -> None:
    async with asyncio.timeout(deadline):
        while not condition():
            await asyncio.sleep(0.02)


def sleeping(sshd: Sshd) -> list[str]:
    return [command for command in sshd.commands() if "sleep 9" in command]


COMMANDS = [
    pytest.param("exec sleep 991", 1, id="itself"),
    pytest.param("sleep 991; true", 2, id="a child"),
    pytest.param("sh -c 'sleep 991; true' & sh -c 'sleep 992; true'; true", 5, id="children of children"),
    pytest.param("(sleep 991 & sleep 992 &); nohup sleep 993 >/dev/null 2>&1 & sleep 994; true", 5, id="orphans"),
    pytest.param("trap '' TERM INT HUP; sleep 991; sleep 992", 2, id="one that minds no signals"),
    pytest.param("setsid sleep 991 & sleep 992; true", 3, id="a session of its own"),
]


@pytest.mark.parametrize("terminal", [False, True], ids=["plain", "terminal"])
@pytest.mark.parametrize(("command", "count"), COMMANDS)
async def test_what_is_cancelled_is_gone(kitchen: Kitchen, command: str, count: int, terminal: bool) -> None:
    sshd = kitchen.sshd("PasswordAuthentication yes")
    guest = await kitchen.connected(**LET_IN, ssh_pty=terminal)
    running = asyncio.create_task(read(guest, command))
    await until(lambda: len(sleeping(sshd)) >= count)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 30)
    await until(lambda: sleeping(sshd) == [], 5)
    assert await read(guest, "echo still here") == (0, "still here")


async def test_a_time_out_is_the_same(kitchen: Kitchen) -> None:
    sshd = kitchen.sshd("PasswordAuthentication yes")
    guest = await kitchen.connected(**LET_IN)
    other = asyncio.create_task(read(guest, "sleep 5; echo other"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await read(guest, "sleep 991; true")
    assert sleeping(sshd) == []
    assert await other == (0, "other")  # what has nothing to do with it goes on


@pytest.mark.parametrize("terminal", [False, True], ids=["plain", "terminal"])
async def test_what_runs_by_sudo_is_gone_too(kitchen: Kitchen, terminal: bool) -> None:
    if not shutil.which("sudo"):
        pytest.skip("sudo is not installed: tools/packages tests")
    sshd = kitchen.sshd("PasswordAuthentication yes")
    guest = await kitchen.connected(**LET_IN, ssh_pty=terminal)
    assert await read(guest, "sudo -n id -u") == (0, "0")
    running = asyncio.create_task(read(guest, "sudo -n sh -c 'sleep 991; true'; true"))
    await until(lambda: any(command == "sleep 991" for command in sshd.commands()))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 30)
    await until(lambda: sleeping(sshd) == [], 5)


async def test_it_is_gone_from_a_small_guest(guest: SshGuest) -> None:
    """busybox and dropbear: no setsid of the server's, no ps worth the name."""
    mark = f"9{os.getpid()}"
    running = asyncio.create_task(read(guest, f"sleep {mark}1 & sh -c 'sleep {mark}2; true'; true"))
    await until(lambda: len(processes(f"sleep\0{mark}")) == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 30)
    await until(lambda: processes(f"sleep\0{mark}") == [], 5)
    assert await read(guest, "echo still here") == (0, "still here")


async def test_a_user_of_a_small_guest_ends_what_is_his(oven: Oven) -> None:
    guest = oven.guest("baker", pty=True)
    await guest.connect(30)
    mark = f"8{os.getpid()}"
    running = asyncio.create_task(read(guest, f"sleep {mark}; true"))
    await until(lambda: len(processes(f"sleep\0{mark}")) == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 30)
    await until(lambda: processes(f"sleep\0{mark}") == [], 5)
    guest.close()


async def test_a_silent_guest_holds_up_a_cancellation_for_so_long_and_no_longer(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.ssh.guest._ENDING", 1)
    sshd = kitchen.sshd("PasswordAuthentication yes")
    guest = await kitchen.connected(**LET_IN)
    running = asyncio.create_task(read(guest, "sleep 991; true"))
    await until(lambda: len(sleeping(sshd)) >= 1)
    sshd.freeze()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 20)


async def test_what_a_shell_says_before_a_command_is_output(kitchen: Kitchen) -> None:
    sshd = kitchen.sshd("PasswordAuthentication yes")
    shell = sshd.home / "shell"
    shell.write_text('#!/bin/sh\nprintf "welcome"\nexec /bin/sh "$@"\n')
    shell.chmod(0o755)
    passwd = sshd.work / "etc/passwd"
    passwd.write_text(passwd.read_text().replace("/home/baker:/bin/sh", "/home/baker:/home/baker/shell"))
    guest = await kitchen.connected(**LET_IN)
    assert await read(guest, "echo; echo hello; exit 7") == (7, "welcome\nhello")


class Ends(Door):
    """A server whose commands end as a test wants, by messages in an order of its own."""

    def __init__(self, ends: Callable[[paramiko.Channel], None]) -> None:
        super().__init__("publickey", lambda: True)
        self._ends = ends

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Timer(0.05, self._ends, (channel,)).start()
        return True


def _signal_then_gone(channel: paramiko.Channel) -> None:
    channel.sendall(b"said")
    message = paramiko.Message()
    message.add_byte(bytes([98]))  # SSH_MSG_CHANNEL_REQUEST, RFC 4254, section 6.10
    message.add_int(channel.remote_chanid)
    message.add_string("exit-signal")
    message.add_boolean(False)
    message.add_string("KILL")
    message.add_boolean(False)
    message.add_string("")
    message.add_string("")
    transport = channel.get_transport()
    transport._send_user_message(message)  # type: ignore[attr-defined]
    channel.close()
    transport.close()


def _output_ends_then_gone(channel: paramiko.Channel) -> None:
    channel.shutdown_write()
    channel.get_transport().close()


@pytest.fixture
async def serving() -> Any:
    async def ask(ends: Callable[[paramiko.Channel], None]) -> Any:
        host_key, key = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()

        def serve(connection: socket.socket) -> None:
            transport = paramiko.Transport(connection)
            transport.add_server_key(host_key)
            with suppress(Exception):
                transport.start_server(server=Ends(ends))
                transport.join(30)
            transport.close()

        with listening(serve) as port:
            guest = SshGuest(LogInPlan("127.0.0.1", Credentials("baker", (OfferedKey("the key", key),)), port))
            await guest.connect(30)
            said = bytearray()

            def output(data: bytes) -> None:
                said.extend(data)
                end = time.monotonic() + 20
                while guest.is_connected and time.monotonic() < end:  # the end is looked at when all has gone
                    time.sleep(0.01)

            try:
                return await asyncio.wait_for(guest.run("true", output), 30), bytes(said)
            finally:
                guest.close()

    return ask


Ask = Callable[[Callable[[paramiko.Channel], None]], Awaitable[Any]]


async def test_a_signal_is_one_also_when_the_connection_goes_right_after_it(serving: Ask) -> None:
    assert await serving(_signal_then_gone) == (-1, b"said")


async def test_a_connection_that_goes_before_the_end_is_known_is_lost(serving: Ask) -> None:
    for _ in range(5):
        with pytest.raises(ConnectionLost):
            await serving(_output_ends_then_gone)


async def test_a_server_that_is_killed_has_not_ended_the_command(kitchen: Kitchen) -> None:
    sshd = kitchen.sshd("PasswordAuthentication yes")
    guest = await kitchen.connected(**LET_IN)
    running = asyncio.create_task(read(guest, "exec sleep 991"))
    await until(lambda: len(sleeping(sshd)) >= 1)
    for pid in sshd.processes():
        with suppress(OSError):
            if b"sshd: baker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    with pytest.raises(ConnectionLost, match="while a command ran"):
        await asyncio.wait_for(running, 30)
