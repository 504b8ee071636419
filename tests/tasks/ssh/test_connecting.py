"""From an address to a log-in, with servers that do not do what one would like."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading

import paramiko
import pytest

from blocks.errors import CannotConnect, HostKeyChanged
from tasks.ssh.guest import SshGuest
from tasks.ssh.plan import Credentials, LogInPlan, OfferedKey
from tests.tasks.ssh.servers import door, hanging_up, listening, silent

KEY = paramiko.ECDSAKey.generate()
HOST_KEY = paramiko.ECDSAKey.generate()
OTHER_HOST_KEY = paramiko.ECDSAKey.generate()


def guest_at(port: int, attempts: int = 2) -> SshGuest:
    credentials = Credentials("baker", (OfferedKey("the key", KEY),))
    return SshGuest(LogInPlan("127.0.0.1", credentials, port, handshake_attempts=attempts))


async def refused(guest: SshGuest, timeout: float) -> str:
    with pytest.raises(CannotConnect) as caught:
        await asyncio.wait_for(guest.connect(timeout), 20)
    assert not guest.is_connected
    return str(caught.value)


async def test_it_connects_and_drops() -> None:
    with listening(door(HOST_KEY)) as port:
        guest = guest_at(port)
        await guest.connect(20)
        assert guest.is_connected
        guest.close()
        guest.close()
        assert not guest.is_connected


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    text = await refused(guest_at(port), 0.6)
    assert f"127.0.0.1 port {port}: no SSH server answered within 0.6 s: Connection refused (" in text
    assert "ssh_timeout" in text


async def test_a_silent_server_does_not_hang() -> None:
    with listening(silent) as port:
        assert "no SSH server answered" in await refused(guest_at(port), 0.6)


async def test_a_server_that_hangs_up() -> None:
    with listening(hanging_up) as port:
        assert "connection closed before the banner" in await refused(guest_at(port), 0.6)


async def test_it_goes_in_as_soon_as_a_server_answers() -> None:
    # The first connections hang for good, as behind a rack's network before the guest listens.
    numbers = itertools.count()
    serve = door(HOST_KEY)
    with listening(lambda connection: silent(connection) if next(numbers) < 2 else serve(connection)) as port:
        guest = guest_at(port)
        await asyncio.wait_for(guest.connect(100), 15)
        guest.close()


async def test_a_key_that_is_not_let_in() -> None:
    with listening(door(HOST_KEY, lets_in=lambda: False)) as port:
        text = await refused(guest_at(port), 10)
    assert "the SSH server answers, and 2 log-ins failed: user baker is not let in: the server takes publickey" in text
    assert "offered were the key: refused" in text
    assert f"baker@127.0.0.1 port {port}" in text
    assert "ssh_username" in text


async def test_a_server_that_takes_no_keys_says_what_it_takes() -> None:
    with listening(door(HOST_KEY, methods="password,keyboard-interactive", lets_in=lambda: False)) as port:
        text = await refused(guest_at(port), 10)
    assert "the server takes password, keyboard-interactive; offered were the key: not taken" in text


async def test_a_key_that_is_let_in_a_little_later() -> None:
    tries = itertools.count()
    with listening(door(HOST_KEY, lets_in=lambda: next(tries) >= 2)) as port:
        guest = guest_at(port, attempts=10)
        await guest.connect(20)
        assert guest.is_connected
        guest.close()


async def test_attempts_without_a_limit() -> None:
    tries = itertools.count()
    with listening(door(HOST_KEY, lets_in=lambda: next(tries) >= 3)) as port:
        guest = guest_at(port, attempts=0)
        await guest.connect(60)
        guest.close()


async def test_another_host_key_is_no_guest_of_ours() -> None:
    with listening(door(HOST_KEY)) as port:
        guest = guest_at(port)
        await guest.connect(20)
    with listening(door(OTHER_HOST_KEY), port), pytest.raises(HostKeyChanged) as caught:
        await guest.connect(20)
    text = str(caught.value)
    assert f"was {HOST_KEY.fingerprint}, is {OTHER_HOST_KEY.fingerprint}" in text
    assert not guest.is_connected
    with listening(door(HOST_KEY), port):
        await guest.connect(20)
        guest.close()


@pytest.mark.parametrize("server", ["silent", "no handshake", "no log-in"])
async def test_connecting_can_be_cancelled_at_once(server: str) -> None:
    reached, end = threading.Event(), threading.Event()

    def no_handshake(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-nothing\r\n")
        connection.recv(1024)
        reached.set()
        silent(connection)

    def no_answer() -> bool:
        reached.set()
        return end.wait(30)

    def nothing(connection: socket.socket) -> None:
        reached.set()
        silent(connection)

    serves = {"silent": nothing, "no handshake": no_handshake, "no log-in": door(HOST_KEY, lets_in=no_answer)}
    with listening(serves[server]) as port:
        connecting = asyncio.create_task(guest_at(port).connect(1000))
        try:
            assert await asyncio.to_thread(reached.wait, 20)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(connecting, 2)
        finally:
            end.set()
