"""TLS to the OUTSCALE API, with a client certificate where the account's API access rules ask for one."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from blocks.errors import CredentialsError


def tls(*, verify: bool, certificate: str | None, key: str | None) -> bool | ssl.SSLContext:
    """How the API's certificate is verified, and with which client certificate we come.

    Args:
        verify: Whether the API's certificate is verified.
        certificate: Path of a PEM file with a client certificate.
        key: Path of a PEM file with its key.

    Raises:
        CredentialsError: the client certificate cannot be used.
    """
    if not certificate and not key:
        return verify
    if not certificate or not key:
        raise CredentialsError(
            "a client certificate needs its key, and a key its certificate",
            resource=certificate or str(key),
            hint="Give both paths or neither.",
        )
    context = httpx.create_ssl_context(verify=verify)
    certificate_file, key_file = Path(certificate).expanduser(), Path(key).expanduser()
    try:
        context.load_cert_chain(certificate_file, key_file, password=_refuse_password)
    except (OSError, ValueError) as error:
        raise CredentialsError(
            "the client certificate cannot be used",
            resource=f"{certificate_file} with {key_file}",
            why=str(error),
            hint="Both must be PEM files on the host that builds, readable by the user that builds, and the key "
            "must be that of the certificate and have no passphrase.",
        ) from None
    return context


def _refuse_password() -> str:
    # Without this, OpenSSL would ask for a passphrase on the terminal.
    return ""
