"""What lets a build in, with OpenSSH's own server, agent and certificates. Options are given as in a definition."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.errors import CannotConnect, DefinitionError, HostKeyChanged
from tasks.communicator import read
from tasks.ssh.host_key import host_key
from tasks.ssh.key_files import load_key
from tests.tasks.ssh.conftest import Kitchen
from tests.tasks.ssh.openssh import PASSWORD, USER, Sshd, agent, certify, keygen

PASSWORDS = "PasswordAuthentication yes"
ANSWERS = "KbdInteractiveAuthentication yes"
BY_PASSWORD: dict[str, Any] = {"ssh_password": {"env": "PASSWORD"}}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)
    monkeypatch.setenv("WRONG", "wrong battery")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


async def refused(kitchen: Kitchen, **options: Any) -> str:
    with pytest.raises(CannotConnect) as caught:
        await kitchen.connected(**options)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("takes", [PASSWORDS, ANSWERS])
async def test_a_password(kitchen: Kitchen, takes: str) -> None:
    kitchen.sshd(takes)
    guest = await kitchen.connected(**BY_PASSWORD)
    assert await read(guest, "id -un") == (0, USER)


async def test_a_wrong_password_is_not_tried_for_ever(kitchen: Kitchen) -> None:
    sshd = kitchen.sshd(PASSWORDS, ANSWERS)
    text = await asyncio.wait_for(
        refused(kitchen, ssh_password={"env": "WRONG"}, ssh_handshake_attempts=2, timeout=1000), 100
    )
    assert "2 log-ins failed: user baker is not let in" in text
    assert "the server takes" in text
    assert "password" in text
    assert "the password: refused; the password as answer: refused" in text
    await logged(sshd, "Failed password", 2)


async def test_the_user_is_who_is_named(kitchen: Kitchen) -> None:
    kitchen.sshd(PASSWORDS)
    text = await refused(kitchen, **BY_PASSWORD, ssh_username="nobody", ssh_handshake_attempts=1)
    assert "nobody@127.0.0.1" in text
    assert "1 log-in failed: user nobody is not let in" in text


async def test_the_temporary_key(kitchen: Kitchen) -> None:
    key = keygen(kitchen.path / "temporary")
    kitchen.sshd().authorize(key.with_suffix(".pub"))
    await kitchen.connected(temporary_key=load_key(key))
    text = await refused(kitchen, ssh_handshake_attempts=1)
    assert "offered were no credentials" in text


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
async def test_a_key_file(kitchen: Kitchen, kind: str) -> None:
    key = keygen(kitchen.path / "key", kind=kind)
    kitchen.sshd().authorize(key.with_suffix(".pub"))
    await kitchen.connected(ssh_private_key_file=str(key))
    other = keygen(kitchen.path / "other")
    text = await refused(kitchen, ssh_private_key_file=str(other), ssh_handshake_attempts=1)
    assert f"the key {other}: refused" in text


async def test_a_key_file_of_the_home_directory_and_of_the_definitions(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(kitchen.path / "me"))
    key = keygen(kitchen.path / "me/key")
    kitchen.sshd().authorize(key.with_suffix(".pub"))
    await kitchen.connected(ssh_private_key_file="~/key")
    await kitchen.connected(ssh_private_key_file="me/key")


@pytest.mark.parametrize("form", [[], ["-m", "PEM"], ["-m", "PKCS8"]])
async def test_a_key_file_with_a_passphrase(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, form: list[str]) -> None:
    key = keygen(kitchen.path / "key", *form, passphrase="open sesame", kind="rsa")
    kitchen.sshd().authorize(key.with_suffix(".pub"))
    monkeypatch.setenv("PASSPHRASE", "open sesame")
    file: dict[str, Any] = {"ssh_private_key_file": str(key)}
    await kitchen.connected(**file, ssh_private_key_passphrase={"env": "PASSPHRASE"})
    with pytest.raises(DefinitionError, match="passphrase be right"):
        await kitchen.connected(**file, ssh_private_key_passphrase={"env": "WRONG"})
    with pytest.raises(DefinitionError, match="is encrypted: its passphrase must be given"):
        await kitchen.connected(**file)


async def test_an_agent(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    key, other = keygen(kitchen.path / "key"), keygen(kitchen.path / "other")
    kitchen.sshd().authorize(key.with_suffix(".pub"))
    with agent(kitchen.path / "a", other, key) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        await kitchen.connected(ssh_agent_auth=True)
        text = await refused(kitchen, ssh_handshake_attempts=1)
        assert "no credentials" in text
    with agent(kitchen.path / "b", other) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        assert "the agent's key other: refused" in await refused(kitchen, ssh_agent_auth=True, ssh_handshake_attempts=1)
    assert "the agent: it does not answer at SSH_AUTH_SOCK" in await refused(
        kitchen, ssh_agent_auth=True, ssh_handshake_attempts=1
    )


async def test_a_certificate(kitchen: Kitchen) -> None:
    authority, key = keygen(kitchen.path / "ca"), keygen(kitchen.path / "key")
    kitchen.sshd(f"TrustedUserCAKeys {authority}.pub")
    certificate = certify(authority, key.with_suffix(".pub"))
    moved = certificate.rename(kitchen.path / "elsewhere.pub")  # so that it counts only as an option
    await kitchen.connected(ssh_private_key_file=str(key), ssh_certificate_file=str(moved))
    text = await refused(kitchen, ssh_private_key_file=str(key), ssh_handshake_attempts=1)
    assert "the certificate" not in text
    other = certify(authority, key.with_suffix(".pub"), principal="nobody")
    text = await refused(
        kitchen, ssh_private_key_file=str(key), ssh_certificate_file=str(other), ssh_handshake_attempts=1
    )
    assert f"the certificate {other}: refused; the key {key}: refused" in text


async def test_a_certificate_of_another_key(kitchen: Kitchen) -> None:
    authority, key, other = (keygen(kitchen.path / name) for name in ("ca", "key", "other"))
    certificate = certify(authority, other.with_suffix(".pub"))
    with pytest.raises(DefinitionError, match="ssh_certificate_file: must be a certificate of the private key"):
        await kitchen.plan(ssh_private_key_file=str(key), ssh_certificate_file=str(certificate))


async def test_all_credentials_are_offered_in_packers_order(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    kitchen.sshd(PASSWORDS, ANSWERS, "MaxAuthTries 20")
    held, filed, temporary = (keygen(kitchen.path / name) for name in ("held", "filed", "temporary"))
    with agent(kitchen.path / "a", held) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        text = await refused(
            kitchen,
            ssh_agent_auth=True,
            ssh_private_key_file=str(filed),
            ssh_password={"env": "WRONG"},
            ssh_handshake_attempts=1,
            temporary_key=load_key(temporary),
        )
    places = [
        text.index(f"{what}: refused")
        for what in (
            "the agent's key held",
            f"the key {filed}",
            "the temporary key",
            "the password",
            "the password as answer",
        )
    ]
    assert places == sorted(places)


async def test_a_server_that_asks_for_two_things(kitchen: Kitchen) -> None:
    key = keygen(kitchen.path / "key")
    sshd = kitchen.sshd(PASSWORDS, "AuthenticationMethods publickey,password")
    sshd.authorize(key.with_suffix(".pub"))
    await kitchen.connected(ssh_private_key_file=str(key), **BY_PASSWORD)
    text = await refused(kitchen, ssh_private_key_file=str(key), ssh_handshake_attempts=1)
    assert f"the key {key}: taken, and password is asked for besides" in text


async def test_a_server_that_has_had_enough(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    kitchen.sshd("MaxAuthTries 2")
    keys = [keygen(kitchen.path / f"key{number}") for number in range(4)]
    with agent(kitchen.path / "a", *keys) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        text = await refused(kitchen, ssh_agent_auth=True, ssh_handshake_attempts=1)
    assert "the server broke off the log-in" in text
    assert "too many refused credentials" in text


async def test_a_host_key_that_is_known_ahead(kitchen: Kitchen) -> None:
    sshd = kitchen.sshd(PASSWORDS)
    await kitchen.connected(**BY_PASSWORD, host_key=load_key(sshd.host_key))
    await logged(sshd, "Accepted password")
    logs = len(sshd.log)
    with pytest.raises(HostKeyChanged, match="another than the one that it was given") as caught:
        await kitchen.connected(**BY_PASSWORD, host_key=host_key(SecretStr("token"), kitchen.run))
    assert "cloud-init" in str(caught.value)
    await logged(sshd, r"Connection (closed|reset) by .*\[preauth\]")
    assert "password" not in sshd.log[logs:]  # nothing was offered to it


async def test_a_host_key_pinned_at_first_contact_is_asked_for_again(kitchen: Kitchen) -> None:
    sshd = kitchen.sshd(PASSWORDS)
    rsa = sshd.host_key = keygen(kitchen.path / "rsa", kind="rsa")
    sshd.end()
    sshd.start()
    guest = await kitchen.connected(**BY_PASSWORD)
    assert guest.host_key is not None
    assert guest.host_key.get_name() == "ssh-rsa"
    sshd.end()
    # A guest that got another kind of host key besides is still the same one.
    sshd.extra = (f"HostKey {keygen(kitchen.path / 'ed25519')}",)
    sshd.start()
    await guest.connect(30)
    sshd.end()
    sshd.host_key, sshd.extra = keygen(kitchen.path / "new"), ()
    sshd.start()
    with pytest.raises(HostKeyChanged, match="another than at first contact"):
        await guest.connect(30)
    sshd.end()
    sshd.host_key = rsa
    sshd.start()
    await guest.connect(30)


async def logged(sshd: Sshd, pattern: str, times: int = 1) -> None:
    """The server writes of a log-in when it has answered, and that may be after the client knows."""
    async with asyncio.timeout(20):
        while len(re.findall(pattern, sshd.log)) < times:
            await asyncio.sleep(0.05)
    assert len(re.findall(pattern, sshd.log)) == times


async def test_it_connects_first_and_then_pauses(kitchen: Kitchen) -> None:
    sshd = kitchen.sshd(PASSWORDS)
    clock = asyncio.get_running_loop().time
    began = clock()
    guest = await kitchen.connected(**BY_PASSWORD, pause_before_connecting="1s")
    assert clock() - began >= 1
    await logged(sshd, "Accepted password", 2)
    await guest.connect(30)
    await logged(sshd, "Accepted password", 3)
