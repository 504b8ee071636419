"""Private keys and user certificates in files of the host that builds."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_identity,
)
from pydantic import SecretStr

from blocks.errors import Mistake
from tasks.ssh.log_in import has_terminal
from tasks.ssh.temporary_key import public_line

if TYPE_CHECKING:
    from tasks.ssh.options import SshOptions


_KINDS: dict[type, type[paramiko.PKey]] = {
    Ed25519PrivateKey: paramiko.Ed25519Key,
    EllipticCurvePrivateKey: paramiko.ECDSAKey,
    RSAPrivateKey: paramiko.RSAKey,
}


class BadKeyFile(ValueError):
    """A file holds no usable key or certificate. Its text is a rule, such as `must be …`."""


def path_here(base: Path, name: str) -> Path:
    """A file as the definition means it: `~` is the user's home, relative paths are the definition's."""
    return base / Path(name).expanduser()


def load_key(path: Path, passphrase: SecretStr | None = None) -> paramiko.PKey:
    """Read a private key: OpenSSH's format or PEM, of type ed25519, ecdsa or rsa.

    Raises:
        BadKeyFile: it is not there, no such key, or encrypted and the passphrase is missing or wrong.
    """
    _readable(path)
    data, password = path.read_bytes(), passphrase.get_secret_value().encode() if passphrase is not None else None
    try:
        try:
            private = load_ssh_private_key(data, password)
        except ValueError:
            private = load_pem_private_key(data, password)  # type: ignore[assignment]
        kind = next(kind for known, kind in _KINDS.items() if isinstance(private, known))
    except TypeError:
        rule = "is encrypted: its passphrase must be given" if password is None else "is not encrypted: no passphrase"
        raise BadKeyFile(f"{rule} ({path})") from None
    except StopIteration:
        raise BadKeyFile(f"must hold an ed25519, ecdsa or rsa key ({path})") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        wrong = ", and its passphrase be right" if password is not None else ""
        raise BadKeyFile(f"must hold a private key{wrong} ({path}): {error}") from None
    # One form that paramiko reads for certain, whatever the file's was.
    text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return kind.from_private_key(io.StringIO(text))


def load_certificate(path: Path, key: paramiko.PKey, again: paramiko.PKey) -> paramiko.PKey:
    """Read a user certificate and put it on a second copy of its key.

    Raises:
        BadKeyFile: it is not there, none for users, not this key's, or not valid now.
    """
    certificate = _certificate(path)
    public = certificate.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    if public != public_line(key):
        raise BadKeyFile(f"must be a certificate of the private key ({path})")
    again.load_certificate(str(path))
    return again


def _certificate(path: Path) -> SSHCertificate:
    _readable(path)
    try:
        certificate = load_ssh_public_identity(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKeyFile(f"must hold an SSH certificate ({path}): {error}") from None
    if not isinstance(certificate, SSHCertificate) or certificate.type is not SSHCertificateType.USER:
        raise BadKeyFile(f"must hold a user certificate ({path})")
    if not certificate.valid_after <= time.time() < certificate.valid_before:
        raise BadKeyFile(f"must hold a certificate that is valid now ({path})")
    return certificate


def _readable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise BadKeyFile(f"must be readable on the host that builds ({path}): {error.strerror}") from None


def mistakes_here(options: SshOptions, base: Path) -> list[Mistake]:
    """What the options name and this host does not have."""
    return [Mistake(option, rule, value, of_host=True) for option, value, rule in _mistakes(options, base)]


def _mistakes(options: SshOptions, base: Path) -> Iterator[tuple[str, str, str]]:
    for key_option, passphrase in (
        ("ssh_private_key_file", options.ssh_private_key_passphrase),
        ("ssh_bastion_private_key_file", options.ssh_bastion_private_key_passphrase),
    ):
        name = getattr(options, key_option)
        if name is not None:
            try:
                # One with a passphrase is opened when the secret is at hand, before anything is created.
                _readable(path_here(base, name)) if passphrase else load_key(path_here(base, name))
            except BadKeyFile as error:
                yield key_option, name, str(error)
    for option in ("ssh_certificate_file", "ssh_bastion_certificate_file"):
        name = getattr(options, option)
        if name is not None:
            try:
                _certificate(path_here(base, name))
            except BadKeyFile as error:
                yield option, name, str(error)
    if not os.environ.get("SSH_AUTH_SOCK"):
        for option, asked in (
            ("ssh_agent_auth", options.ssh_agent_auth),
            ("ssh_bastion_agent_auth", options.ssh_bastion_host and options.ssh_bastion_agent_auth),
            ("ssh_disable_agent_forwarding", not options.ssh_disable_agent_forwarding),
        ):
            if asked:
                yield option, "", "needs an SSH agent: SSH_AUTH_SOCK is not set for the process that builds"
    if options.ssh_bastion_interactive and not has_terminal():
        yield "ssh_bastion_interactive", "", "needs a terminal, and this process has none"
