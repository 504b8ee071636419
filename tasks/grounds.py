"""How a process that knows nothing of a build gets at its resources: the grounds, by cloud.

A ground travels as JSON (over the reaper's pipe) and holds resolved credentials: it is never logged, nor put in an
argument or an environment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from tasks.mark import Lineage

if TYPE_CHECKING:
    from blocks.outscale.credentials import OutscaleCredentials
    from blocks.oxide.credentials import OxideCredentials
    from tasks.teardown import Ground

SECRETS = frozenset({"token", "secret_key"})
"""Fields of a ground that are secret."""


def oxide(credentials: OxideCredentials, project: str) -> dict[str, Any]:
    """An Oxide project, as JSON."""
    return {
        "cloud": "oxide",
        "host": credentials.host,
        "token": credentials.token.get_secret_value(),
        "insecure_skip_verify": credentials.insecure_skip_verify,
        "project": project,
    }


def without_secrets(ground: Mapping[str, Any]) -> dict[str, Any]:
    """A ground that can be written down."""
    return {name: value for name, value in ground.items() if name not in SECRETS}


def url_of(ground: Mapping[str, Any]) -> str:
    """The URL of the cloud's API."""
    return str(ground["host"] if ground["cloud"] == "oxide" else ground["endpoint"])


def outscale(credentials: OutscaleCredentials) -> dict[str, Any]:
    """An OUTSCALE account, as JSON."""
    return {
        "cloud": "outscale",
        "endpoint": credentials.url,
        "region": credentials.region,
        "access_key": credentials.access_key.get_secret_value(),
        "secret_key": credentials.secret_key.get_secret_value(),
        "insecure_skip_tls_verify": credentials.insecure_skip_tls_verify,
        "x509_cert_path": credentials.x509_cert_path,
        "x509_key_path": credentials.x509_key_path,
    }


@asynccontextmanager
async def opened(ground: Mapping[str, Any], lineage: Lineage) -> AsyncIterator[Ground]:
    """Open a ground from its JSON, to look for what a build left."""
    match ground["cloud"]:
        case "oxide":
            from blocks.oxide.client import OxideClient
            from tasks.oxide.ground import OxideGround

            token = SecretStr(ground["token"])
            async with OxideClient(ground["host"], token, verify=not ground["insecure_skip_verify"]) as client:
                yield OxideGround(client, ground["project"])
        case "outscale":
            from blocks.outscale.client import OutscaleClient
            from blocks.outscale.tls import tls
            from tasks.outscale.ground import OutscaleGround

            verify = tls(
                verify=not ground["insecure_skip_tls_verify"],
                certificate=ground["x509_cert_path"],
                key=ground["x509_key_path"],
            )
            async with OutscaleClient(
                ground["endpoint"],
                ground["region"],
                ground["access_key"],
                SecretStr(ground["secret_key"]),
                verify=verify,
            ) as region:
                yield OutscaleGround(region, lineage)
        case other:
            raise ValueError(f"no such cloud: {other}")
