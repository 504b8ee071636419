"""How a process that knows nothing of a build gets at its resources: the grounds, by cloud.

A ground travels as JSON (over the reaper's pipe) and holds resolved credentials: it is never logged, nor put in an
argument or an environment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from tasks.teardown import Ground


def oxide(host: str, token: SecretStr, *, insecure_skip_verify: bool, project: str) -> dict[str, Any]:
    """An Oxide project, as JSON."""
    return {
        "cloud": "oxide",
        "host": host,
        "token": token.get_secret_value(),
        "insecure_skip_verify": insecure_skip_verify,
        "project": project,
    }


@asynccontextmanager
async def opened(ground: Mapping[str, Any]) -> AsyncIterator[Ground]:
    """Open a ground from its JSON."""
    match ground["cloud"]:
        case "oxide":
            from blocks.oxide.client import OxideClient
            from tasks.oxide.ground import OxideGround

            token = SecretStr(ground["token"])
            async with OxideClient(ground["host"], token, verify=not ground["insecure_skip_verify"]) as client:
                yield OxideGround(client, ground["project"])
        case other:
            raise ValueError(f"no such cloud: {other}")
