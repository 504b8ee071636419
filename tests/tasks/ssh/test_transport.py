"""What a connection is like: algorithms, keep-alives, time-outs, a terminal, the agent, tunnels."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from blocks.errors import CannotConnect, ConnectionLost
from tasks.communicator import read
from tests.tasks.ssh.conftest import Kitchen
from tests.tasks.ssh.openssh import PASSWORD, agent, free_port, keygen
from tests.tasks.ssh.servers import listening

PASSWORDS = "PasswordAuthentication yes"
LET_IN: dict[str, Any] = {"ssh_password": {"env": "PASSWORD"}}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.mark.parametrize("cipher", ["aes256-ctr", "aes256-gcm@openssh.com"])
async def test_ciphers(kitchen: Kitchen, cipher: str) -> None:
    sshd = kitchen.sshd(PASSWORDS)
    await kitchen.connected(**LET_IN, ssh_ciphers=[cipher])
    assert sshd.logged(f"kex: client->server cipher: {cipher}")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("ecdh-sha2-nistp521", "ecdh-sha2-nistp521"),
        ("diffie-hellman-group16-sha512", "diffie-hellman-group16-sha512"),
        ("curve25519-sha256", "curve25519-sha256@libssh.org"),
    ],
)
async def test_key_exchange(kitchen: Kitchen, given: str, used: str) -> None:
    sshd = kitchen.sshd(PASSWORDS)
    await kitchen.connected(**LET_IN, ssh_key_exchange_algorithms=[given])
    assert sshd.logged(f"kex: algorithm: {used} ")


@pytest.mark.parametrize(
    ("config", "options", "said"),
    [
        (
            "Ciphers aes128-ctr",
            {"ssh_ciphers": ["aes256-ctr"]},
            "cipher: the server has aes128-ctr; this build has aes2",
        ),
        (
            "KexAlgorithms diffie-hellman-group14-sha256",
            {"ssh_key_exchange_algorithms": ["ecdh-sha2-nistp256"]},
            "key exchange method: the server has diffie-hellman-group14-sha256; this build has ecdh-sha2-nistp256",
        ),
        ("MACs umac-64@openssh.com", {"ssh_ciphers": ["aes256-ctr"]}, "MAC: the server has umac-64@openssh.com; this"),
    ],
)
async def test_nothing_in_common(kitchen: Kitchen, config: str, options: dict[str, Any], said: str) -> None:
    kitchen.sshd(PASSWORDS, config)
    with pytest.raises(CannotConnect) as caught:
        await kitchen.connected(**LET_IN, **options, ssh_handshake_attempts=1)
    assert f"1 log-in failed: the handshake failed: no common {said}" in str(caught.value)


async def test_keep_alives(kitchen: Kitchen) -> None:
    sshd = kitchen.sshd(PASSWORDS, level="DEBUG3")
    quiet = await kitchen.connected(**LET_IN, ssh_keep_alive_interval=-1)
    await read(quiet, "sleep 1")
    assert "keepalive@openssh.com" not in sshd.log
    quiet.close()
    await kitchen.connected(**LET_IN, ssh_keep_alive_interval="0.1s")
    async with asyncio.timeout(20):
        while sshd.log.count("keepalive@openssh.com") < 3:
            await asyncio.sleep(0.05)


async def test_a_guest_that_falls_silent(kitchen: Kitchen) -> None:
    sshd = kitchen.sshd(PASSWORDS)
    guest = await kitchen.connected(**LET_IN, ssh_read_write_timeout="2s")
    # What is only quiet answers keep-alives, and is let be.
    assert await read(guest, "sleep 5; echo done") == (0, "done")
    assert guest.is_connected
    running = asyncio.create_task(read(guest, "sleep 1000"))
    async with asyncio.timeout(20):
        while not any(command == "sleep 1000" for command in sshd.commands()):
            await asyncio.sleep(0.02)
    sshd.freeze()
    with pytest.raises(ConnectionLost, match="nothing was received for 2 s"):
        await asyncio.wait_for(running, 20)


async def test_a_guest_may_be_silent_for_long_without_a_limit(kitchen: Kitchen) -> None:
    kitchen.sshd(PASSWORDS)
    guest = await kitchen.connected(**LET_IN, ssh_keep_alive_interval=-1)
    assert await read(guest, "sleep 3; echo done") == (0, "done")


@pytest.fixture
def threads_that_take_turns_often() -> Iterator[None]:
    """What only happens when a thread is held up at the wrong moment happens soon."""
    was = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(was)


async def test_commands_side_by_side(kitchen: Kitchen, threads_that_take_turns_often: None) -> None:
    kitchen.sshd(PASSWORDS)
    guest = await kitchen.connected(**LET_IN)

    async def one_after_the_other(lane: int) -> list[tuple[int, str]]:
        return [await read(guest, f"echo {lane}.{number}; exit {number}") for number in range(150)]

    found = await asyncio.gather(*(one_after_the_other(lane) for lane in range(4)))
    assert found == [[(number, f"{lane}.{number}") for number in range(150)] for lane in range(4)]


async def test_a_command_has_nothing_to_read(kitchen: Kitchen) -> None:
    kitchen.sshd(PASSWORDS)
    guest = await kitchen.connected(**LET_IN)
    assert await asyncio.wait_for(read(guest, "cat; read x || echo end; (cat; echo child)"), 20) == (0, "end\nchild")


async def test_a_terminal(kitchen: Kitchen) -> None:
    kitchen.sshd(PASSWORDS)
    guest = await kitchen.connected(**LET_IN, ssh_pty=True)
    code, said = await read(guest, "stty size; echo $TERM; tty; exit 3")
    assert code == 3
    assert said.split()[:3] == ["40", "80", "xterm"]
    assert "/dev/pts/" in said
    plain = await kitchen.connected(**LET_IN)
    assert await read(plain, "tty") == (1, "not a tty")


async def test_the_agent_is_forwarded_only_when_that_is_asked_for(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keygen(kitchen.path / "held")
    kitchen.sshd(PASSWORDS)
    with agent(kitchen.path / "a", key) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        guest = await kitchen.connected(**LET_IN, ssh_disable_agent_forwarding=False)
        code, said = await read(guest, "ssh-add -l")
        assert (code, "held" in said) == (0, True)
        plain = await kitchen.connected(**LET_IN)
        assert await read(plain, "echo ${SSH_AUTH_SOCK:-none}") == (0, "none")


def answers(connection: socket.socket) -> None:
    """Say twice what is said, and hang up."""
    with suppress(OSError):
        connection.sendall(connection.recv(100) * 2)
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def service() -> Iterator[int]:
    with listening(answers) as port:
        yield port


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.settimeout(20)
        connection.sendall(b"hello ")
        said = b""
        while data := connection.recv(100):
            said += data
        return said


async def test_local_tunnels_stand_while_the_build_is_connected(kitchen: Kitchen) -> None:
    sshd = kitchen.sshd(PASSWORDS)
    listen, second = free_port(), free_port()
    with service() as there, service() as other:
        tunnels = [f"{listen}:localhost:{there}", f"{second}:127.0.0.1:{other}"]
        guest = await kitchen.connected(**LET_IN, ssh_local_tunnels=tunnels)
        assert await asyncio.to_thread(ask, listen) == b"hello hello "
        assert await asyncio.to_thread(ask, second) == b"hello hello "
        assert sshd.log.count("direct-tcpip") >= 2
        await guest.connect(30)
        assert await asyncio.to_thread(ask, listen) == b"hello hello "
        guest.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(ask, listen)


async def test_a_local_tunnel_whose_port_is_taken(kitchen: Kitchen) -> None:
    kitchen.sshd(PASSWORDS)
    with service() as taken, pytest.raises(CannotConnect, match="Address already in use") as caught:
        await kitchen.connected(**LET_IN, ssh_local_tunnels=[f"{taken}:localhost:80"])
    assert f"ssh_local_tunnels {taken}:localhost:80" in str(caught.value)


async def test_remote_tunnels_stand_while_the_build_is_connected(kitchen: Kitchen) -> None:
    kitchen.sshd(PASSWORDS)
    listen, second = free_port(), free_port()
    with service() as here, listening(lambda connection: connection.sendall(b"other")) as other:
        tunnels = [f"{listen}:localhost:{here}", f"{second}:localhost:{other}"]
        guest = await kitchen.connected(**LET_IN, ssh_remote_tunnels=tunnels)
        ask_there = f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{listen}; printf hello >&3; cat <&3'"
        assert await read(guest, ask_there) == (0, "hellohello")
        assert await read(guest, f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{second}; head -c 5 <&3'") == (0, "other")
        await guest.connect(30)
        assert await read(guest, ask_there) == (0, "hellohello")


async def test_a_remote_tunnel_that_is_not_allowed(kitchen: Kitchen) -> None:
    kitchen.sshd(PASSWORDS, "AllowTcpForwarding no")
    with pytest.raises(CannotConnect, match="the guest does not open the remote tunnel") as caught:
        await kitchen.connected(**LET_IN, ssh_remote_tunnels=["8080:localhost:80"])
    assert "ssh_remote_tunnels 8080:localhost:80" in str(caught.value)


async def test_nothing_of_a_connection_is_left_when_it_is_closed(kitchen: Kitchen) -> None:
    kitchen.sshd(PASSWORDS)
    with service() as there:
        listen = free_port()
        guest = await kitchen.connected(**LET_IN, ssh_local_tunnels=[f"{listen}:localhost:{there}"])
        await asyncio.to_thread(ask, listen)
    guest.close()
    async with asyncio.timeout(20):
        while [thread.name for thread in threading.enumerate() if thread.name.startswith("ssh ")]:
            await asyncio.sleep(0.05)
