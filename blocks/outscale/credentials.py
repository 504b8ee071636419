"""Credentials for an OUTSCALE region, from wherever they are given."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from prefect.blocks.abstract import CredentialsBlock
from pydantic import Field, HttpUrl, SecretStr

from blocks.errors import CredentialsError
from blocks.outscale.client import OutscaleClient
from blocks.outscale.tls import tls
from blocks.references import BlockReference, SecretReference

log = logging.getLogger("image_bakery.outscale")

DEFAULT_REGION = "eu-west-2"


class OutscaleCredentials(CredentialsBlock):
    """Who we are in an OUTSCALE region: an access key and its secret.

    Example:
        ```python
        from blocks.outscale.credentials import OutscaleCredentials

        credentials = OutscaleCredentials.load("NAME")
        async with credentials.get_client() as region:
            await region.check_credentials()
        ```
    """

    _block_type_name = "OUTSCALE Credentials"
    _block_type_slug = "outscale-credentials"
    _description = "Access key of an OUTSCALE account in one region, for baking OMIs there."
    _logo_url = HttpUrl("https://outscale.com/favicon.ico")
    _documentation_url = HttpUrl("https://docs.outscale.com/en/userguide/About-Access-Keys.html")

    access_key: SecretStr = Field(title="Access key", description="Id of the access key.")
    secret_key: SecretStr = Field(title="Secret key", description="The access key's secret.")
    region: str = Field(
        default=DEFAULT_REGION,
        title="Region",
        description="The region that the account is in.",
        examples=["eu-west-2", "us-east-2", "us-west-1", "ap-northeast-1", "cloudgouv-eu-west-1"],
    )
    endpoint: str | None = Field(
        default=None,
        title="Endpoint",
        description="URL of the API up to and without the action. Left out: that of the region.",
        examples=["https://api.eu-west-2.outscale.com/api/v1"],
    )
    insecure_skip_tls_verify: bool = Field(
        default=False, title="Do not verify TLS", description="Accept any certificate of the API."
    )
    x509_cert_path: str | None = Field(
        default=None,
        title="Client certificate",
        description="Path of a PEM file on the host that builds, where the account's API access rules ask for one.",
    )
    x509_key_path: str | None = Field(
        default=None, title="Key of the client certificate", description="Path of a PEM file on the host that builds."
    )

    @property
    def url(self) -> str:
        """URL of the API up to and without the action.

        Raises:
            CredentialsError: the endpoint is no URL.
        """
        return _endpoint(self.endpoint, self.region) if self.endpoint else _default_endpoint(self.region)

    def get_client(self) -> OutscaleClient:
        """A client for this region; close it, or use it as an async context manager.

        Raises:
            CredentialsError: the endpoint is no URL, or the client certificate cannot be used.
        """
        access_key = self.access_key.get_secret_value()
        verify = tls(verify=not self.insecure_skip_tls_verify, certificate=self.x509_cert_path, key=self.x509_key_path)
        return OutscaleClient(self.url, self.region, access_key, self.secret_key, verify=verify)


class OutscaleCredentialsReference(BlockReference):
    """An OUTSCALE Credentials block."""

    block_type_slug: ClassVar[str] = "outscale-credentials"


@dataclass(frozen=True)
class _Source:
    """What one place says, field by field; empty is nothing."""

    access_key: str = ""
    secret_key: str = ""
    region: str = ""
    endpoint: str = ""
    insecure_skip_tls_verify: bool = False
    x509_cert_path: str = ""
    x509_key_path: str = ""

    def __repr__(self) -> str:
        return "_Source(…)"


async def find_credentials(
    *,
    block: OutscaleCredentialsReference | None = None,
    access_key: SecretReference | None = None,
    secret_key: SecretReference | None = None,
    region: str | None = None,
    custom_endpoint_oapi: str | None = None,
    profile: str | None = None,
    insecure_skip_tls_verify: bool = False,
    x509_cert_path: str | None = None,
    x509_key_path: str | None = None,
    base: Path | None = None,
) -> OutscaleCredentials:
    """The credentials for a build: a block; or field by field options, a profile, `OSC_*`, `OUTSCALE_*`.

    The first that says something counts for each field. With a block nothing else is read but the other options, which
    count before the block's fields. The profile is `profile`, else the one that `OSC_PROFILE` names, and is read from
    `OSC_CONFIG_FILE`, else `~/.osc/config.json`. A place can only turn the verification of TLS off, not on. Where no
    place names a region, it is `eu-west-2`.

    Args:
        block: An OUTSCALE Credentials block.
        access_key: Where the access key's id is; goes with `secret_key`.
        secret_key: Where its secret is.
        region: The region.
        custom_endpoint_oapi: URL of the API up to and without the action.
        profile: A profile of the profile file.
        insecure_skip_tls_verify: Accept any certificate of the API.
        x509_cert_path: PEM file of a client certificate; goes with `x509_key_path`.
        x509_key_path: PEM file of its key.
        base: Directory against which relative paths of options resolve: that of the definition.

    Raises:
        CredentialsError: there are none, or they are incomplete.
        SecretUnavailable: a reference leads nowhere.
    """
    if (access_key is None) != (secret_key is None):
        raise CredentialsError(
            "an access key goes with its secret",
            resource="the options access_key and secret_key",
            hint="Give both or neither.",
        )
    if block is not None and (access_key is not None or profile):
        raise CredentialsError(
            "a credentials block and other keys are given", hint="Give the block, or the keys, or a profile."
        )
    options = _Source(
        access_key=(await access_key.resolve(base)).get_secret_value() if access_key else "",
        secret_key=(await secret_key.resolve(base)).get_secret_value() if secret_key else "",
        region=region or "",
        endpoint=_option_endpoint(custom_endpoint_oapi, region) if custom_endpoint_oapi else "",
        insecure_skip_tls_verify=insecure_skip_tls_verify,
        x509_cert_path=_option_path(x509_cert_path, base),
        x509_key_path=_option_path(x509_key_path, base),
    )
    if block is not None:
        found = await block.load(OutscaleCredentials)
        given = {f.name: value for f in fields(options) if (value := getattr(options, f.name))}
        return found.model_copy(update=given)
    sources = [options]
    if name := profile or os.environ.get("OSC_PROFILE"):
        sources.append(_profile(name))
    sources.append(_environment())
    sources.append(_old_environment(sources))
    return _merged(sources)


def _merged(sources: list[_Source]) -> OutscaleCredentials:
    found: dict[str, Any] = {
        f.name: next((value for source in sources if (value := getattr(source, f.name))), f.default)
        for f in fields(_Source)
    }
    missing = [name for name in ("access_key", "secret_key") if not found[name]]
    if missing:
        raise CredentialsError(
            "there are no credentials for an OUTSCALE region" if len(missing) == 2 else f"{missing[0]} missing",
            hint="Give `credentials` (an OUTSCALE Credentials block), `access_key` and `secret_key`, `profile`, or set "
            "OSC_ACCESS_KEY and OSC_SECRET_KEY where the build runs.",
        )
    region = found["region"] or DEFAULT_REGION
    return OutscaleCredentials(
        access_key=SecretStr(found["access_key"]),
        secret_key=SecretStr(found["secret_key"]),
        region=region,
        endpoint=_endpoint(found["endpoint"], region) if found["endpoint"] else None,
        insecure_skip_tls_verify=found["insecure_skip_tls_verify"],
        x509_cert_path=found["x509_cert_path"] or None,
        x509_key_path=found["x509_key_path"] or None,
    )


def _environment() -> _Source:
    get = os.environ.get
    return _Source(
        access_key=get("OSC_ACCESS_KEY", ""),
        secret_key=get("OSC_SECRET_KEY", ""),
        region=get("OSC_REGION", ""),
        endpoint=get("OSC_ENDPOINT_API", ""),
        insecure_skip_tls_verify=get("OSC_TLS_SKIP_VERIFY", "").lower() in ("yes", "true"),
        x509_cert_path=get("OSC_X509_CLIENT_CERT", ""),
        x509_key_path=get("OSC_X509_CLIENT_KEY", ""),
    )


_OLD_NAMES = {
    "access_key": ("OUTSCALE_ACCESSKEYID", "OSC_ACCESS_KEY"),
    "secret_key": ("OUTSCALE_SECRETKEYID", "OSC_SECRET_KEY"),
    "region": ("OUTSCALE_REGION", "OSC_REGION"),
    "endpoint": ("OUTSCALE_OAPI_URL", "OSC_ENDPOINT_API"),
    "x509_cert_path": ("OUTSCALE_X509CERT", "OSC_X509_CLIENT_CERT"),
    "x509_key_path": ("OUTSCALE_X509KEY", "OSC_X509_CLIENT_KEY"),
}


def _old_environment(before: list[_Source]) -> _Source:
    found: dict[str, Any] = {}
    for field, (old, new) in _OLD_NAMES.items():
        value = os.environ.get(old, "")
        if value and not any(getattr(source, field) for source in before):
            log.warning("%s is an old name: set %s in its place.", old, new)
            found[field] = value
    return _Source(**found)


def _profile(name: str) -> _Source:
    path = Path(os.environ.get("OSC_CONFIG_FILE") or "~/.osc/config.json").expanduser()
    profiles = _profiles(path)
    found = profiles.get(name)
    if not isinstance(found, dict):
        raise CredentialsError(
            f"there is no profile {name!r}",
            resource=str(path),
            why=f"it has: {', '.join(sorted(profiles)) or 'none'}",
            hint="Add it with one of OUTSCALE's command line tools, or name another profile.",
        )
    endpoints = found.get("endpoints")
    text = {key: str(value) for key, value in found.items() if value}
    return _Source(
        access_key=text.get("access_key", ""),
        secret_key=text.get("secret_key", ""),
        region=text.get("region", ""),
        endpoint=str(endpoints.get("api") or "") if isinstance(endpoints, dict) else "",
        insecure_skip_tls_verify=found.get("tls_skip_verify") is True,
        x509_cert_path=text.get("x509_client_cert", ""),
        x509_key_path=text.get("x509_client_key", ""),
    )


def _profiles(path: Path) -> dict[str, Any]:
    try:
        profiles = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        profiles = {}
    except (OSError, ValueError):
        profiles = None
    if not isinstance(profiles, dict):
        raise CredentialsError(
            "the profile file cannot be read as a JSON object", resource=str(path), hint="Mend it, or remove it."
        )
    return profiles


def _option_path(given: str | None, base: Path | None) -> str:
    return str((base or Path()) / Path(given).expanduser()) if given else ""


def _default_endpoint(region: str) -> str:
    return f"https://api.{region}.outscale.com/api/v1"


def _option_endpoint(given: str, region: str | None) -> str:
    if "://" not in given:
        suffix = given.strip("/")
        raise CredentialsError(
            "the endpoint is no URL",
            resource=f"custom_endpoint_oapi {given}",
            hint="Give the whole URL with its scheme, up to and without the action. Where this was a suffix of old: "
            f"https://api.{region or DEFAULT_REGION}.{suffix}",
        )
    return given


def _endpoint(given: str, region: str) -> str:
    """A URL of what a place says: profiles leave the scheme out at times, and some name the host alone."""
    address = given if "://" in given else f"https://{given}"
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise CredentialsError(
            "the endpoint is no http or https URL", resource=given, hint=f"Such as {_default_endpoint(region)}."
        )
    address = address.rstrip("/")
    return address if parts.path.strip("/") else f"{address}/api/v1"
