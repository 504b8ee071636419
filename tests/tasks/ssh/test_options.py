"""The options of the SSH communicator as a definition gives them: all mistakes at once, and what comes of the rest."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from pydantic import SecretStr

from blocks.errors import DefinitionError, Mistake
from blocks.references import SecretReference
from flows.check import check
from flows.fleet.file import read_one
from flows.oxide_image.definition import OxideImageDefinition
from tasks.masking import masked
from tasks.ssh.host_key import host_key, host_key_user_data
from tasks.ssh.options import SshOptions
from tasks.ssh.plan import Tunnel
from tasks.ssh.resolve import log_in_plan
from tasks.ssh.steps import LogIn
from tasks.ssh.temporary_key import public_line, temporary_key
from tests.tasks.ssh.openssh import certify, keygen

HEAD = "boot_disk_image_id: debian-12\nproject: images\n"
BASE: dict[str, Any] = {"boot_disk_image_id": "x", "project": "p", "ssh_username": "u"}
PLAIN = "S3CRET-in-the-clear"


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def definition(**options: Any) -> OxideImageDefinition:
    return check(OxideImageDefinition, {**BASE, **options})


def mistakes(**options: Any) -> dict[str, str]:
    with pytest.raises(DefinitionError) as caught:
        check(OxideImageDefinition, {**BASE, **options})
    assert PLAIN not in str(caught.value)
    return {mistake.option: mistake.rule for mistake in caught.value.mistakes}


def test_mistakes_in_options_and_between_them_come_together(tmp_path: Path) -> None:
    text = HEAD + (
        "cpus: 300\n"  # 3
        "ssh_port: 0\n"  # 4
        "ssh_bastion_host: bastion\n"  # 5
        "ssh_proxy_host: proxy\n"  # 6
        f"ssh_proxy_password: {PLAIN}\n"  # 7
        "ssh_certificate_file: a\n"  # 8
        "ssh_keypair_name: mine\n"  # 9
        "winrm_username: me\n"  # 10
        "ssh_ciphers: [aes128-ctr, rot13, blowfish]\n"  # 11
        "ssh_local_tunnels: ['80:a']\n"  # 12
        "tokne: x\n"  # 13
    )
    (tmp_path / "build.yaml").write_text(text)
    with pytest.raises(DefinitionError) as caught:
        read_one(tmp_path / "build.yaml", model=OxideImageDefinition)
    assert PLAIN not in str(caught.value)
    found: dict[str, list[Mistake]] = {}
    for mistake in caught.value.mistakes:
        found.setdefault(mistake.option, []).append(mistake)
    assert {option: some[0].line for option, some in found.items()} == {
        "ssh_username": 1,
        "cpus": 3,
        "ssh_port": 4,
        "ssh_bastion_host": 5,
        "ssh_proxy_host": 6,
        "ssh_proxy_password": 7,
        "ssh_certificate_file": 8,
        "ssh_keypair_name": 9,
        "winrm_username": 10,
        "ssh_ciphers": 11,
        "ssh_local_tunnels[0]": 12,
        "tokne": 13,
    }
    assert found["ssh_username"][0].rule == "is required"
    assert "one of ssh_bastion_password" in found["ssh_bastion_host"][0].rule
    assert found["ssh_proxy_host"][0].rule == "cannot be combined with ssh_bastion_host"
    assert {mistake.rule for mistake in found["ssh_proxy_password"]} >= {"needs ssh_proxy_username"}
    assert found["ssh_certificate_file"][0].rule == "needs ssh_private_key_file"
    assert "ssh_public_keys" in found["ssh_keypair_name"][0].rule
    assert "WinRM" in found["winrm_username"][0].rule
    assert "rot13, blowfish; there are aes128-ctr, aes192-ctr" in found["ssh_ciphers"][0].rule
    assert "LISTENPORT:HOST:PORT" in found["ssh_local_tunnels[0]"][0].rule


@pytest.mark.parametrize(
    ("options", "option", "rule"),
    [
        ({"communicator": "winrm"}, "communicator", "must be ssh or none: WinRM is not supported"),
        ({"communicator": "docker"}, "communicator", "containers"),
        ({"communicator": "dockerWindowsContainer"}, "communicator", "containers"),
        ({"communicator": "telnet"}, "communicator", "'ssh' or 'none'"),
        ({"ssh_private_key": "x"}, "ssh_private_key", "ssh_private_key_file"),
        ({"ssh_public_key": "x"}, "ssh_public_key", "ssh_public_keys"),
        ({"ssh_password": PLAIN}, "ssh_password", "{env: VARIABLE}"),
        ({"ssh_private_key_passphrase": {"env": "A"}}, "ssh_private_key_passphrase", "needs ssh_private_key_file"),
        ({"ssh_bastion_port": 22}, "ssh_bastion_port", "needs ssh_bastion_host"),
        ({"ssh_bastion_agent_auth": True}, "ssh_bastion_agent_auth", "needs ssh_bastion_host"),
        ({"ssh_proxy_type": "http"}, "ssh_proxy_type", "needs ssh_proxy_host"),
        (
            {"ssh_bastion_host": "b", "ssh_bastion_interactive": True, "ssh_bastion_certificate_file": "c"},
            "ssh_bastion_certificate_file",
            "needs ssh_bastion_private_key_file",
        ),
        ({"ssh_timeout": 0}, "ssh_timeout", "greater than 0"),
        ({"ssh_wait_timeout": "soon"}, "ssh_wait_timeout", "90s"),
        ({"ssh_handshake_attempts": -1}, "ssh_handshake_attempts", "greater than or equal to 0"),
        ({"ssh_keep_alive_interval": "often"}, "ssh_keep_alive_interval", "90s"),
        ({"ssh_file_transfer_method": "ftp"}, "ssh_file_transfer_method", "'sftp' or 'scp'"),
        ({"ssh_proxy_host": "p", "ssh_proxy_type": "socks4"}, "ssh_proxy_type", "'socks5' or 'http'"),
        ({"ssh_key_exchange_algorithms": ["x"]}, "ssh_key_exchange_algorithms", "there are mlkem768x25519-sha256"),
        ({"ssh_ciphers": []}, "ssh_ciphers", "at least 1"),
        ({"ssh_remote_tunnels": ["1:a:b"]}, "ssh_remote_tunnels[0]", "LISTENPORT:HOST:PORT"),
        ({"ssh_host_key": "injected", "user_data": "x"}, "ssh_host_key", "one user data"),
        ({"temporary_key_pair_name": "Not_This"}, "temporary_key_pair_name", "lower-case"),
        ({"temporary_key_pair_type": "magic"}, "temporary_key_pair_type", "'ed25519'"),
        (
            {"communicator": "none", "provisioners": [{"type": "shell", "inline": ["x"]}]},
            "provisioners",
            "must be empty with communicator: none",
        ),
    ],
)
def test_each_rule(options: dict[str, Any], option: str, rule: str) -> None:
    assert rule in mistakes(**options)[option]


def test_what_may_be_combined() -> None:
    definition(ssh_bastion_host="b", ssh_bastion_password={"env": "A"}, ssh_host="guest")
    definition(ssh_proxy_host="p", ssh_proxy_username="u", ssh_proxy_password={"env": "A"})
    assert check(OxideImageDefinition, {"boot_disk_image_id": "x", "project": "p", "communicator": "none"})


def test_files_are_looked_at_before_anything_is_created(tmp_path: Path) -> None:
    keygen(tmp_path / "good")
    keygen(tmp_path / "locked", passphrase="open sesame")
    authority = keygen(tmp_path / "ca")
    expired = certify(authority, tmp_path / "good.pub", valid="-2h:-1h").rename(tmp_path / "expired.pub")
    (tmp_path / "text").write_text("no key")
    here = {"definition_file": str(tmp_path / "build.yaml")}
    definition(**here, ssh_private_key_file="good")
    definition(**here, ssh_private_key_file="locked", ssh_private_key_passphrase={"env": "LATER"})
    found = mistakes(
        **here,
        ssh_private_key_file="nowhere",
        ssh_certificate_file=str(expired),
        ssh_bastion_host="b",
        ssh_bastion_private_key_file="locked",
        ssh_bastion_certificate_file="good.pub",
        provisioners=[{"type": "shell", "script": "gone.sh"}],
    )
    assert set(found) == {
        "ssh_private_key_file",
        "ssh_certificate_file",
        "ssh_bastion_private_key_file",
        "ssh_bastion_certificate_file",
        "provisioners[0].script",
    }
    assert "must be readable on the host that builds" in found["ssh_private_key_file"]
    assert "valid now" in found["ssh_certificate_file"]
    assert "is encrypted: its passphrase must be given" in found["ssh_bastion_private_key_file"]
    assert "must hold a user certificate" in found["ssh_bastion_certificate_file"]
    assert "must hold a private key" in mistakes(**here, ssh_private_key_file="text")["ssh_private_key_file"]


@pytest.mark.parametrize("option", ["ssh_agent_auth", "ssh_disable_agent_forwarding"])
def test_an_agent_that_is_not_there(option: str) -> None:
    assert "SSH_AUTH_SOCK" in mistakes(**{option: option == "ssh_agent_auth"})[option]


@pytest.mark.parametrize(
    ("options", "made"),
    [
        ({}, True),
        ({"ssh_password": {"env": "A"}}, False),
        ({"ssh_private_key_file": "k"}, False),
        ({"ssh_agent_auth": True}, False),
        ({"communicator": "none"}, False),
        ({"ssh_bastion_host": "b", "ssh_bastion_password": {"env": "A"}}, True),
    ],
)
def test_when_a_temporary_key_is_made(options: dict[str, Any], made: bool) -> None:
    assert SshOptions.model_validate({"ssh_username": "u", **options}).makes_temporary_key is made


def test_time_outs_and_warnings() -> None:
    plain = definition()
    assert (plain.connect_timeout, plain.ssh_handshake_attempts, plain.ssh_warnings()) == (300, 10, [])
    assert definition(ssh_timeout="1m").ssh_handshake_attempts == 10  # setting one leaves the other
    assert definition(ssh_handshake_attempts=3).connect_timeout == 300
    old = definition(ssh_timeout="1m", ssh_wait_timeout="2m")
    assert old.connect_timeout == 120
    assert "ssh_wait_timeout" in old.ssh_warnings()[0]
    rsa = definition(temporary_key_pair_type="rsa", temporary_key_pair_bits=4096).ssh_warnings()
    assert ["ed25519" in warning for warning in rsa] == [True, True]


@pytest.mark.parametrize(("given", "meant"), [(None, 5), (0, 5), ("0s", 5), ("2s", 2), (-1, 0), ("-1s", 0), (-30, 0)])
async def test_keep_alives(given: Any, meant: float) -> None:
    options = {} if given is None else {"ssh_keep_alive_interval": given}
    plan = await log_in_plan(definition(**options), Path())
    assert plan.keep_alive_interval == meant


async def test_secrets_are_looked_up_where_the_build_runs_and_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", PLAIN)
    reference = SecretReference(env="SECRET")
    options = definition(
        ssh_password=reference, ssh_proxy_host="p", ssh_proxy_username="u", ssh_proxy_password=reference
    )
    assert PLAIN not in options.as_yaml()
    plan = await log_in_plan(options, Path())
    assert PLAIN not in repr(plan)
    assert plan.credentials.password == SecretStr(PLAIN)
    assert masked(f"it is {PLAIN}") == "it is ********"


async def test_who_connects_is_known_to_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", PLAIN)
    key = temporary_key(SecretStr("token"), uuid4())
    plan = await log_in_plan(definition(ssh_port=2222), Path(), temporary_key=key)
    assert LogIn(plan, key).facts("192.0.2.7") == {
        "host": "192.0.2.7",
        "port": 2222,
        "user": "u",
        "connection": "ssh",
        "public_key": public_line(key),
    }
    named = await log_in_plan(definition(ssh_host="guest", ssh_password={"env": "SECRET"}), Path())
    assert LogIn(named, None).facts("192.0.2.7")["host"] == "guest"
    assert PLAIN not in str(LogIn(named, None).facts("192.0.2.7"))


@pytest.mark.parametrize(
    ("text", "tunnel"),
    [
        ("8080:mirror:80", Tunnel(8080, "mirror", 80)),
        ("1:[::1]:2", Tunnel(1, "::1", 2)),
        ("0:a:1", None),
        ("1:a:65536", None),
        ("1::2", None),
        ("1:::2", None),
        ("a:b:1", None),
        ("1:b", None),
        ("1:x:y:2", None),
        ("", None),
    ],
)
def test_tunnels(text: str, tunnel: Tunnel | None) -> None:
    if tunnel is None:
        with pytest.raises(ValueError, match="LISTENPORT:HOST:PORT"):
            Tunnel.parse(text)
    else:
        assert Tunnel.parse(text) == tunnel


async def test_user_data_that_gives_a_guest_its_host_key(tmp_path: Path) -> None:
    token, run = SecretStr("token"), uuid4()
    text = host_key_user_data(token, run).get_secret_value()
    assert text.startswith("#cloud-config\n")
    given = yaml.safe_load(text)
    assert given["ssh_deletekeys"] is True
    private = tmp_path / "host_key"
    private.write_text(given["ssh_keys"]["ed25519_private"])
    private.chmod(0o600)
    public = await asyncio.to_thread(subprocess.check_output, ["ssh-keygen", "-y", "-f", str(private)], text=True)
    assert public.strip() == given["ssh_keys"]["ed25519_public"] == public_line(host_key(token, run))
    assert host_key(token, run) != temporary_key(token, run)
    assert json.dumps(given)  # nothing but text in it
