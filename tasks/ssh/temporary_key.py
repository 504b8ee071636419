"""The temporary key of a build: derived, so that another process with the same API token can go on with the build."""

from __future__ import annotations

import io
import shlex
from uuid import UUID

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from tasks.communicator import Communicator, as_root_if_possible, must

TEMPORARY_KEY = "temporary key"


def temporary_key(token: SecretStr, run: UUID) -> paramiko.Ed25519Key:
    """The ed25519 key that lets a run into its guest."""
    return from_text(derived_text(token, run, TEMPORARY_KEY))


def derived_text(token: SecretStr, run: UUID, purpose: str) -> SecretStr:
    """A private ed25519 key of a run, as OpenSSH writes it to a file.

    HKDF-SHA256 (RFC 5869) of the API token, salted with the run's id, for one purpose: "temporary key", "host key".
    """
    seed = HKDF(SHA256(), 32, salt=run.bytes, info=f"image-bakery {purpose}".encode()).derive(
        token.get_secret_value().encode()
    )
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return SecretStr(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode())


def from_text(text: SecretStr) -> paramiko.Ed25519Key:
    """A key of its text."""
    return paramiko.Ed25519Key.from_private_key(io.StringIO(text.get_secret_value()))


def public_line(key: paramiko.PKey) -> str:
    """The public half, as a line of authorized_keys with no comment."""
    return f"{key.get_name()} {key.get_base64()}"


async def forget_key(communicator: Communicator, key: paramiko.PKey) -> None:
    """Remove a public key from every authorized_keys file of the system that is being made.

    The key itself is matched, and not a comment. A file that held nothing else is removed. Files that we may not write
    are left to `sudo`, where there is one.
    """
    script = f"""
    for home in "$HOME" /root /home/*; do
        file="$home/.ssh/authorized_keys"
        if [ -f "$file" ] && grep -qF {shlex.quote(key.get_base64())} "$file"; then
            rest=$(grep -vF {shlex.quote(key.get_base64())} "$file")
            if [ -n "$rest" ]; then printf '%s\\n' "$rest" > "$file"; else rm -f "$file"; fi || exit 1
        fi
    done
    """
    await must(communicator, as_root_if_possible(script), what="remove the temporary key from authorized_keys")
