"""The ciphers and key exchange methods that there are, by the names of SSH."""

from __future__ import annotations

from collections.abc import Sequence

import paramiko

# RFC 8731: the method has two names. Servers know both, paramiko the older one.
_OTHER_NAMES = {"curve25519-sha256": "curve25519-sha256@libssh.org"}

CIPHERS: tuple[str, ...] = tuple(paramiko.Transport._preferred_ciphers)  # type: ignore[attr-defined]
"""All ciphers, the first one preferred."""

KEY_EXCHANGES: tuple[str, ...] = (
    *paramiko.Transport._preferred_kex,  # type: ignore[attr-defined]
    *_OTHER_NAMES,
)
"""All key exchange methods, the first one preferred."""


def restrict(transport: paramiko.Transport, ciphers: Sequence[str], key_exchange: Sequence[str]) -> None:
    """Have a connection offer these alone, in this order; an empty list leaves what there is."""
    options = transport.get_security_options()
    if ciphers:
        options.ciphers = tuple(dict.fromkeys(ciphers))
    if key_exchange:
        options.kex = tuple(dict.fromkeys(_OTHER_NAMES.get(name, name) for name in key_exchange))


def prefer_host_key(transport: paramiko.Transport, key: paramiko.PKey) -> None:
    """Ask for a host key of a kind that is known first: a server may have several, and get more of them."""
    options = transport.get_security_options()
    known = ("rsa-sha2-512", "rsa-sha2-256") if key.get_name() == "ssh-rsa" else (key.get_name(),)
    options.key_types = tuple(sorted(options.key_types, key=lambda kind: kind not in known))
