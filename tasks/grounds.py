"""How a process that knows nothing of a build gets at its resources: the grounds, by cloud.

A ground travels as JSON (over the reaper's pipe) and holds resolved credentials: it is never logged, nor put in an
argument or an environment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from tasks.teardown import Ground

SECRETS = frozenset({"token", "secret_key"})
"""Fields of a ground that are secret."""


def oxide(host: str, token: SecretStr, *, insecure_skip_verify: bool, project: str) -> dict[str, Any]:
    """An Oxide project, as JSON."""
    return {
        "cloud": "oxide",
        "host": host,
        "token": token.get_secret_value(),
        "insecure_skip_verify": insecure_skip_verify,
        "project": project,
    }


def outscale(
    endpoint: str,
    region: str,
    access_key: SecretStr,
    secret_key: SecretStr,
    *,
    insecure_skip_tls_verify: bool,
    x509_cert_path: str | None,
    x509_key_path: str | None,
) -> dict[str, Any]:
    """An OUTSCALE account, as JSON."""
    return {
        "cloud": "outscale",
        "endpoint": endpoint,
        "region": region,
        "access_key": access_key.get_secret_value(),
        "secret_key": secret_key.get_secret_value(),
        "insecure_skip_tls_verify": insecure_skip_tls_verify,
        "x509_cert_path": x509_cert_path,
        "x509_key_path": x509_key_path,
    }


@asynccontextmanager
async def opened(ground: Mapping[str, Any], run: UUID, attempts: int) -> AsyncIterator[Ground]:
    """Open a ground from its JSON, to look for what a run left up to one of its attempts."""
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
                yield OutscaleGround(region, run, attempts)
        case other:
            raise ValueError(f"no such cloud: {other}")
