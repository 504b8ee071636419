"""Guests that cannot be reached straight: through a bastion (sshd), SOCKS5 (microsocks) and HTTP (tinyproxy) proxies.

The guest's name is one that only the hosts of the test know, so a connection that goes around them does not arrive.
"""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import CannotConnect, HostKeyChanged
from tasks.communicator import read
from tasks.ssh.banner import connect_at_banner
from tasks.ssh.plan import Bastion, Credentials, Proxy
from tasks.ssh.ways import Straight, ThroughProxy, hang_up
from tests.tasks.ssh.conftest import Kitchen
from tests.tasks.ssh.openssh import (
    BEHIND,
    PASSWORD,
    USER,
    Socks,
    Sshd,
    Tinyproxy,
    agent,
    certify,
    free_port,
    keygen,
)
from tests.tasks.ssh.servers import listening, silent

PASSWORDS = "PasswordAuthentication yes"
GUEST: dict[str, Any] = {"ssh_host": BEHIND, "ssh_password": {"env": "PASSWORD"}}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)
    monkeypatch.setenv("PROXY_PASSWORD", PASSWORD.replace(" ", "-"))
    monkeypatch.setenv("WRONG", "wrong battery")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def bastion_of(kitchen: Kitchen, *config: str) -> tuple[Sshd, dict[str, Any]]:
    """A guest, a bastion in front of it, and the options that lead through it."""
    kitchen.sshd(PASSWORDS)
    bastion = kitchen.sshd(*config)
    return bastion, {**GUEST, "ssh_bastion_host": "127.0.0.1", "ssh_bastion_port": bastion.port}


async def refused(kitchen: Kitchen, **options: Any) -> str:
    with pytest.raises(CannotConnect) as caught:
        await kitchen.connected(**options)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


async def test_without_a_bastion_the_guest_is_not_to_be_reached(kitchen: Kitchen) -> None:
    kitchen.sshd(PASSWORDS)
    assert "the name cannot be resolved" in await refused(kitchen, **GUEST, timeout=0.5)


async def test_a_bastions_password(kitchen: Kitchen) -> None:
    bastion, options = bastion_of(kitchen, PASSWORDS)
    guest = await kitchen.connected(**options, ssh_bastion_password={"env": "PASSWORD"})
    assert await read(guest, "id -un") == (0, USER)
    assert bastion.logged("direct-tcpip")
    await guest.connect(60)
    assert await read(guest, "id -un") == (0, USER)


async def test_a_bastion_that_asks_gets_the_password(kitchen: Kitchen) -> None:
    _, options = bastion_of(kitchen, "KbdInteractiveAuthentication yes")
    await kitchen.connected(**options, ssh_bastion_password={"env": "PASSWORD"})


async def test_a_bastions_user(kitchen: Kitchen) -> None:
    _, options = bastion_of(kitchen, PASSWORDS)
    text = await refused(kitchen, **options, ssh_bastion_password={"env": "PASSWORD"}, ssh_bastion_username="nobody")
    assert f"bastion nobody@127.0.0.1 port {options['ssh_bastion_port']}: the log-in to the bastion failed" in text


async def test_a_bastions_key_file(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    bastion, options = bastion_of(kitchen)
    plain, locked = keygen(kitchen.path / "plain"), keygen(kitchen.path / "locked", passphrase="open sesame")
    for key in (plain, locked):
        bastion.authorize(key.with_suffix(".pub"))
    monkeypatch.setenv("PASSPHRASE", "open sesame")
    await kitchen.connected(**options, ssh_bastion_private_key_file=str(plain))
    await kitchen.connected(
        **options, ssh_bastion_private_key_file=str(locked), ssh_bastion_private_key_passphrase={"env": "PASSPHRASE"}
    )
    # Without one of its own, the guest's key is for the bastion, too.
    await kitchen.connected(**options, ssh_private_key_file=str(plain))


async def test_a_bastions_agent(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    bastion, options = bastion_of(kitchen)
    key = keygen(kitchen.path / "key")
    bastion.authorize(key.with_suffix(".pub"))
    with agent(kitchen.path / "a", key) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        await kitchen.connected(**options, ssh_bastion_agent_auth=True)


async def test_a_bastions_certificate(kitchen: Kitchen) -> None:
    authority, key = keygen(kitchen.path / "ca"), keygen(kitchen.path / "key")
    certificate = certify(authority, key.with_suffix(".pub")).rename(kitchen.path / "certificate.pub")
    _, options = bastion_of(kitchen, f"TrustedUserCAKeys {authority}.pub")
    both: dict[str, Any] = {"ssh_bastion_private_key_file": str(key), "ssh_bastion_certificate_file": str(certificate)}
    await kitchen.connected(**options, **both)
    await kitchen.connected(**options, ssh_private_key_file=str(key), ssh_certificate_file=str(certificate))
    text = await refused(kitchen, **options, ssh_bastion_private_key_file=str(key))
    assert "the log-in to the bastion failed" in text


async def test_a_person_answers_the_bastion(kitchen: Kitchen, tmp_path: Path) -> None:
    _, options = bastion_of(kitchen, "KbdInteractiveAuthentication yes")
    given = {"ssh_username": USER, "ssh_port": kitchen.hosts[0].port, "ssh_bastion_interactive": True, **options}
    script = f"""
import asyncio, sys
sys.path.insert(0, {str(Path.cwd())!r})
from pathlib import Path
from tests.tasks.ssh.conftest import Options
from tasks.ssh.guest import SshGuest
from tasks.ssh.resolve import log_in_plan

async def main():
    options = Options.model_validate({given!r})
    assert options.ssh_mistakes_here(Path()) == []
    guest = SshGuest(await log_in_plan(options, Path()))
    await guest.connect(60)
    print("in:", guest.is_connected)
    guest.close()

asyncio.run(main())
"""
    (tmp_path / "ask.py").write_text(script)
    said = await asyncio.to_thread(_at_a_terminal, [sys.executable, str(tmp_path / "ask.py")], b"assword", PASSWORD)
    assert "in: True" in said
    assert PASSWORD not in said


def _at_a_terminal(argv: list[str], prompt: bytes, answer: str) -> str:
    """Run a program with a terminal of its own, and answer its first question."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(argv[0], argv)
    said, end = b"", time.monotonic() + 90
    try:
        while time.monotonic() < end:
            try:
                data = os.read(terminal, 4096)
            except OSError:
                break
            asked = prompt in said
            said += data
            if prompt in said and not asked:
                os.write(terminal, answer.encode() + b"\n")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    return said.decode(errors="replace")


async def test_nobody_answers_where_there_is_no_terminal(kitchen: Kitchen) -> None:
    from tests.tasks.ssh.conftest import Options

    options = Options.model_validate(
        {"ssh_username": USER, "ssh_bastion_host": "bastion", "ssh_bastion_interactive": True}
    )
    process = await asyncio.create_subprocess_exec(
        "setsid", sys.executable, "-c",
        "from tests.tasks.ssh.conftest import Options; from pathlib import Path; "
        f"print(*Options.model_validate({options.model_dump(exclude_unset=True)!r}).ssh_mistakes_here(Path()))",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert b"ssh_bastion_interactive: needs a terminal" in said


async def test_a_bastions_wrong_password_is_told_of_it(kitchen: Kitchen) -> None:
    bastion, options = bastion_of(kitchen, PASSWORDS)
    text = await refused(kitchen, **options, ssh_bastion_password={"env": "WRONG"}, timeout=100)
    assert f"bastion {USER}@127.0.0.1 port {bastion.port}: the log-in to the bastion failed" in text
    assert "the password: refused" in text


async def test_no_bastion_answers(kitchen: Kitchen) -> None:
    kitchen.sshd(PASSWORDS)
    port = free_port()
    text = await refused(
        kitchen,
        **GUEST,
        ssh_bastion_host="127.0.0.1",
        ssh_bastion_port=port,
        ssh_bastion_password={"env": "PASSWORD"},
        timeout=0.6,
    )
    assert f"bastion {USER}@127.0.0.1 port {port}: no SSH server answered" in text
    assert "ssh_bastion_host" in text


async def test_a_bastion_that_may_not_forward(kitchen: Kitchen) -> None:
    _, options = bastion_of(kitchen, PASSWORDS, "AllowTcpForwarding no")
    text = await refused(kitchen, **options, ssh_bastion_password={"env": "PASSWORD"})
    assert "the bastion forwards no connections to the guest" in text


async def test_a_guest_that_is_not_up_behind_its_bastion(kitchen: Kitchen) -> None:
    _, options = bastion_of(kitchen, PASSWORDS)
    port = free_port()
    text = await refused(kitchen, **options, ssh_bastion_password={"env": "PASSWORD"}, ssh_port=port, timeout=2)
    assert f"{BEHIND} port {port} through the bastion {USER}@127.0.0.1" in text
    assert "the bastion cannot reach it: Connect failed" in text


async def test_a_guest_that_comes_up_late_behind_its_bastion(kitchen: Kitchen) -> None:
    _, options = bastion_of(kitchen, PASSWORDS)
    guest_host = kitchen.hosts[0]
    assert isinstance(guest_host, Sshd)
    guest_host.end()
    guest = await kitchen.guest(**options, ssh_bastion_password={"env": "PASSWORD"})
    connecting = asyncio.create_task(guest.connect(60))
    bastion = kitchen.hosts[1]
    assert await asyncio.to_thread(bastion.logged, "direct-tcpip")
    guest_host.start()
    await connecting
    assert guest.is_connected


async def test_a_silent_guest_behind_its_bastion_does_not_hang(kitchen: Kitchen) -> None:
    _, options = bastion_of(kitchen, PASSWORDS)
    with listening(silent) as port:
        text = await refused(kitchen, **options, ssh_bastion_password={"env": "PASSWORD"}, ssh_port=port, timeout=4)
    assert "no SSH server answered" in text


async def test_a_bastions_host_key_is_pinned(kitchen: Kitchen) -> None:
    bastion, options = bastion_of(kitchen, PASSWORDS)
    guest = await kitchen.connected(**options, ssh_bastion_password={"env": "PASSWORD"})
    bastion.end()
    bastion.host_key = keygen(kitchen.path / "other")
    bastion.start()
    with pytest.raises(HostKeyChanged, match="the bastion's host key is another than at first contact"):
        await guest.connect(60)


@pytest.mark.parametrize("login", [False, True], ids=["open", "log-in"])
@pytest.mark.parametrize("kind", ["socks5", "http"])
async def test_proxies(kitchen: Kitchen, kind: str, login: bool) -> None:
    kitchen.sshd(PASSWORDS)
    work = kitchen.path / "proxy"
    proxy = kitchen.host(Socks(work, login=login) if kind == "socks5" else Tinyproxy(work, login=login))
    options: dict[str, Any] = {**GUEST, "ssh_proxy_host": "127.0.0.1", "ssh_proxy_port": proxy.port}
    if kind == "http":
        options["ssh_proxy_type"] = "http"
    if not login:
        guest = await kitchen.connected(**options)
        assert await read(guest, "id -un") == (0, USER)
        return
    secret = "PASSWORD" if kind == "socks5" else "PROXY_PASSWORD"
    await kitchen.connected(**options, ssh_proxy_username="packer", ssh_proxy_password={"env": secret})
    for who in ({}, {"ssh_proxy_username": "packer", "ssh_proxy_password": {"env": "WRONG"}}):
        text = await refused(kitchen, **options, **who, timeout=100)
        assert f"proxy 127.0.0.1 port {proxy.port}: the proxy does not let this build in" in text


async def test_which_proxy_it_is_counts(kitchen: Kitchen) -> None:
    kitchen.sshd(PASSWORDS)
    proxy = kitchen.host(Socks(kitchen.path / "proxy", login=False))
    text = await refused(
        kitchen, **GUEST, ssh_proxy_host="127.0.0.1", ssh_proxy_port=proxy.port, ssh_proxy_type="http", timeout=2
    )
    assert "HTTP proxy 127.0.0.1" in text


@pytest.mark.parametrize(("kind", "port"), [("socks5", 1080), ("http", 3128)])
async def test_the_ports_that_proxies_have_by_default(kitchen: Kitchen, kind: str, port: int) -> None:
    plan = await kitchen.plan(**GUEST, ssh_proxy_host="proxy", ssh_proxy_type=kind)
    assert plan.proxy == Proxy(kind, "proxy", port)  # type: ignore[arg-type]
    assert (await kitchen.plan(**GUEST, ssh_proxy_host="proxy")).proxy == Proxy("socks5", "proxy", 1080)
    plan = await kitchen.plan(**GUEST, ssh_bastion_host="b", ssh_bastion_password={"env": "PASSWORD"})
    assert isinstance(plan.bastion, Bastion)
    assert (plan.bastion.port, plan.bastion.credentials.user) == (22, USER)
    assert isinstance(plan.credentials, Credentials)


async def test_no_proxy_answers_or_it_finds_nobody(kitchen: Kitchen) -> None:
    kitchen.sshd(PASSWORDS)
    port = free_port()
    nobody = {**GUEST, "ssh_proxy_host": "127.0.0.1", "ssh_proxy_port": port}
    text = await refused(kitchen, **nobody, timeout=1)
    assert f"the SOCKS5 proxy 127.0.0.1 port {port} cannot be reached: Connection refused" in text
    proxy = kitchen.host(Socks(kitchen.path / "proxy", login=False))
    text = await refused(kitchen, **{**nobody, "ssh_proxy_port": proxy.port, "ssh_port": port}, timeout=2)
    assert f"the SOCKS5 proxy 127.0.0.1 port {proxy.port} answered: " in text


async def test_ssh_itself_as_a_proxy(kitchen: Kitchen) -> None:
    """`ssh -D`, the SOCKS5 proxy that everybody has."""
    kitchen.sshd(PASSWORDS)
    middle = kitchen.sshd()
    key = keygen(kitchen.path / "key")
    middle.authorize(key.with_suffix(".pub"))
    assert middle.logged("Server listening")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "ssh", "-F", "none", "-N", "-D", f"127.0.0.1:{port}", "-i", key, "-p", str(middle.port),
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes",
        f"{USER}@127.0.0.1",
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await kitchen.connected(**GUEST, ssh_proxy_host="127.0.0.1", ssh_proxy_port=port)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_it_is_in_soon_after_the_banner(kitchen: Kitchen) -> None:
    """Waiting costs no fixed sleeps, however the guest is reached: half a second after it greets, the line is there."""
    clock = asyncio.get_running_loop().time
    proxy = kitchen.host(Socks(kitchen.path / "proxy", login=False))
    await asyncio.to_thread(_listens, proxy.port)
    greets = clock() + 2

    def serve(connection: Any) -> None:
        while clock() < greets:
            time.sleep(0.01)
        connection.sendall(b"SSH-2.0-late\r\n")
        silent(connection)

    with listening(serve) as port:
        through = ThroughProxy(Proxy("socks5", "127.0.0.1", proxy.port), "127.0.0.1", port)
        lines = await asyncio.gather(*(connect_at_banner(way, 60) for way in (Straight("127.0.0.1", port), through)))
        late = clock() - greets
        for line in lines:
            hang_up(line)
    assert late < 0.5 + 2.5  # and what else goes on here


def _listens(port: int) -> None:
    import socket

    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
