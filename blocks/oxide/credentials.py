"""Credentials for an Oxide region, from wherever they are given."""

from __future__ import annotations

import logging
import os
import stat
import tomllib
from pathlib import Path
from typing import Any, ClassVar

from prefect.blocks.abstract import CredentialsBlock
from pydantic import Field, HttpUrl, SecretStr

from blocks.errors import CredentialsError
from blocks.oxide.client import OxideClient
from blocks.references import BlockReference, SecretReference

log = logging.getLogger("image_bakery.oxide")


class OxideCredentials(CredentialsBlock):
    """Who we are on an Oxide region: its URL and a device token.

    Example:
        ```python
        from blocks.oxide.credentials import OxideCredentials

        credentials = OxideCredentials.load("NAME")
        async with credentials.get_client() as region:
            print(await region.project("images"))
        ```
    """

    _block_type_name = "Oxide Credentials"
    _block_type_slug = "oxide-credentials"
    _description = "URL and device token of an Oxide region, for baking images there."
    _logo_url = HttpUrl("https://oxide.computer/favicon.svg")
    _documentation_url = HttpUrl("https://docs.oxide.computer/guides/working-with-api-and-sdk")

    host: str = Field(
        title="Region URL",
        description="URL of the region's API, such as https://my-silo.sys.rack.example.com.",
        examples=["https://my-silo.sys.rack.example.com"],
    )
    token: SecretStr = Field(title="Token", description="A device token: oxide-token-…")
    insecure_skip_verify: bool = Field(
        default=False,
        title="Do not verify TLS",
        description="Accept any certificate. Only for racks whose certificate authority cannot be installed.",
    )

    def get_client(self) -> OxideClient:
        """A client for this region; close it, or use it as an async context manager."""
        return OxideClient(_with_scheme(self.host), self.token, verify=not self.insecure_skip_verify)


class OxideCredentialsReference(BlockReference):
    """An Oxide Credentials block."""

    block_type_slug: ClassVar[str] = "oxide-credentials"


async def find_credentials(
    *,
    block: OxideCredentialsReference | None = None,
    host: str | None = None,
    token: SecretReference | None = None,
    profile: str | None = None,
    insecure_skip_verify: bool = False,
    base: Path | None = None,
) -> OxideCredentials:
    """The credentials for a build: a block; `host` and `token`; a profile; or the environment. First that is given.

    From the environment: `OXIDE_PROFILE`, else `OXIDE_HOST` with `OXIDE_TOKEN` (each also completes a missing `host` or
    `token`), else the default profile of `~/.config/oxide/config.toml`.

    Raises:
        CredentialsError: there are none, or a profile is incomplete.
        SecretUnavailable: a reference leads nowhere.
    """
    if block is not None:
        found = await block.load(OxideCredentials)
        return found.model_copy(update={"insecure_skip_verify": True}) if insecure_skip_verify else found
    if host or token:
        secret = await token.resolve(base) if token else _environment_token()
        address = host or os.environ.get("OXIDE_HOST", "")
        return _complete(address, secret, insecure_skip_verify, "the options host and token")
    if profile or os.environ.get("OXIDE_PROFILE"):
        return _profile(profile or os.environ["OXIDE_PROFILE"], insecure_skip_verify)
    if os.environ.get("OXIDE_HOST") or os.environ.get("OXIDE_TOKEN"):
        address = os.environ.get("OXIDE_HOST", "")
        return _complete(address, _environment_token(), insecure_skip_verify, "OXIDE_HOST and OXIDE_TOKEN")
    if default := _toml("config.toml").get("default-profile"):
        return _profile(str(default), insecure_skip_verify)
    raise CredentialsError(
        "there are no credentials for an Oxide region",
        hint="Give `credentials` (an Oxide Credentials block), `host` and `token`, `profile`, or set OXIDE_HOST "
        "and OXIDE_TOKEN where the build runs.",
    )


def _environment_token() -> SecretStr:
    return SecretStr(os.environ.get("OXIDE_TOKEN", ""))


def _complete(host: str, token: SecretStr, insecure: bool, source: str) -> OxideCredentials:
    missing = [name for name, value in (("host", host), ("token", token.get_secret_value())) if not value]
    if missing:
        raise CredentialsError(
            f"{' and '.join(missing)} missing", resource=source, hint="Both a host and a token are needed."
        )
    return OxideCredentials(host=_with_scheme(host), token=token, insecure_skip_verify=insecure)


def _profile(name: str, insecure: bool) -> OxideCredentials:
    _warn_of_readers(_config_dir() / "credentials.toml")
    profiles = _toml("credentials.toml").get("profile", {})
    found = profiles.get(name) if isinstance(profiles, dict) else None
    if not isinstance(found, dict):
        known = ", ".join(sorted(profiles)) if isinstance(profiles, dict) else ""
        raise CredentialsError(
            f"there is no profile {name!r}",
            resource=str(_config_dir() / "credentials.toml"),
            why=f"it has: {known or 'none'}",
            hint="Log in with Oxide's command line tool, or name another profile.",
        )
    token = SecretStr(str(found.get("token", "")))
    return _complete(str(found.get("host", "")), token, insecure, f"profile {name}")


def _warn_of_readers(path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return
    if mode & 0o077:
        log.warning("%s holds tokens, and others can read it (mode %04o): chmod 600 %s", path, mode, path)


def _config_dir() -> Path:
    return Path("~/.config/oxide").expanduser()


def _toml(name: str) -> dict[str, Any]:
    path = _config_dir() / name
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise CredentialsError(
            "the file cannot be read as TOML", resource=str(path), hint="Mend it, or remove it."
        ) from None


def _with_scheme(host: str) -> str:
    return (host if "://" in host else f"https://{host}").rstrip("/")
