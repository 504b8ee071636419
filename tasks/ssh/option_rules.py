"""Rules between options of the SSH communicator, looked at as they were given, so that all mistakes come at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_WINRM = "is for WinRM, which is not supported: give a Windows image an SSH server (OpenSSH is an optional feature)"

FOREIGN: Mapping[str, str] = {
    "ssh_keypair_name": "means nothing here: list keys of the rack in ssh_public_keys",
    "ssh_private_key": "is no option: give the key's file as ssh_private_key_file",
    "ssh_public_key": "is no option: list keys of the rack in ssh_public_keys, or give ssh_private_key_file",
    **{
        f"winrm_{name}": _WINRM
        for name in ("username", "password", "host", "port", "timeout", "no_proxy", "use_ssl", "insecure", "use_ntlm")
    },
}
"""Options of Packer's communicators that are refused, each with what to do."""


@dataclass(frozen=True)
class Broken:
    """A rule that is broken, and by which option."""

    option: str
    rule: str
    missing: bool = False


def broken_rules(given: Mapping[str, Any]) -> Iterator[Broken]:
    """All rules that the options break. `given`: the options as they were written, checked or not."""
    for option in given:
        if option in FOREIGN:
            yield Broken(option, FOREIGN[option])
    if given.get("communicator") == "none":
        if given.get("provisioners"):
            yield Broken("provisioners", "must be empty with communicator: none, which never logs in to the instance")
        return
    if given.get("ssh_username") is None:
        yield Broken("ssh_username", "is required", missing=True)
    yield from _needs(given, "ssh_certificate_file", "ssh_private_key_file")
    yield from _needs(given, "ssh_private_key_passphrase", "ssh_private_key_file")
    yield from _bastion(given)
    yield from _proxy(given)
    if given.get("ssh_host_key") == "injected":
        for option in ("user_data", "user_data_file"):
            if given.get(option):
                yield Broken("ssh_host_key", f"must be pinned with {option}: an instance has one user data")


def _bastion(given: Mapping[str, Any]) -> Iterator[Broken]:
    if not given.get("ssh_bastion_host"):
        for option in given:
            if option.startswith("ssh_bastion_") and given[option]:
                yield Broken(option, "needs ssh_bastion_host")
        return
    ways = ("ssh_bastion_password", "ssh_bastion_private_key_file", "ssh_bastion_agent_auth", "ssh_bastion_interactive")
    if not any(given.get(option) for option in (*ways, "ssh_private_key_file")):
        yield Broken("ssh_bastion_host", f"needs something that lets the build in: one of {', '.join(ways)}")
    if not given.get("ssh_private_key_file"):
        yield from _needs(given, "ssh_bastion_certificate_file", "ssh_bastion_private_key_file")
        yield from _needs(given, "ssh_bastion_private_key_passphrase", "ssh_bastion_private_key_file")
    if given.get("ssh_proxy_host"):
        yield Broken("ssh_proxy_host", "cannot be combined with ssh_bastion_host")


def _proxy(given: Mapping[str, Any]) -> Iterator[Broken]:
    if not given.get("ssh_proxy_host"):
        for option in given:
            if option.startswith("ssh_proxy_") and given[option]:
                yield Broken(option, "needs ssh_proxy_host")
        return
    yield from _needs(given, "ssh_proxy_password", "ssh_proxy_username")


def _needs(given: Mapping[str, Any], option: str, other: str) -> Iterator[Broken]:
    if given.get(option) and not given.get(other):
        yield Broken(option, f"needs {other}")
