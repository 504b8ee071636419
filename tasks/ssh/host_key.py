"""A host key that the build gives its guest, so that it knows the guest at first contact."""

from __future__ import annotations

import json
from uuid import UUID

import paramiko
from pydantic import SecretStr

from tasks.ssh.temporary_key import derived_text, from_text, public_line

_PURPOSE = "host key"


def host_key(token: SecretStr, run: UUID) -> paramiko.Ed25519Key:
    """The host key of a run's guest: derived as the temporary key is, so that a resumed build knows it, too."""
    return from_text(derived_text(token, run, _PURPOSE))


def host_key_user_data(token: SecretStr, run: UUID) -> SecretStr:
    """User data that gives a guest its host key (cloud-init, module "SSH", `ssh_keys` and `ssh_deletekeys`).

    The guest has no other host key then. An image without cloud-init takes no notice of it. It holds the private key:
    whoever may read the instance's user data can pass for the guest, for as long as the guest has that key.
    """
    # JSON's strings are YAML's, too, and keep the key's newlines.
    private = json.dumps(derived_text(token, run, _PURPOSE).get_secret_value())
    public = json.dumps(public_line(host_key(token, run)))
    return SecretStr(
        f"#cloud-config\nssh_deletekeys: true\nssh_keys:\n  ed25519_private: {private}\n  ed25519_public: {public}\n"
    )
