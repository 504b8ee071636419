"""`packer-manifest.json`: what was made, in the format of Packer's manifest post-processor.

    {"builds": [{"name", "builder_type", "build_time", "files", "artifact_id", "packer_run_uuid", "custom_data"}, …],
     "last_run_uuid": …}

Tools that read it find the last build by `last_run_uuid`. `artifact_id` is what the plugins of the two clouds say: an
image's id on Oxide, REGION:OMI on OUTSCALE; `builder_type` is `oxide-instance` or `outscale-chroot`. The format has no
field for the plugins' BuilderId.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from blocks.errors import BakeryError, Mistake, WaitExpired

_PAUSE = 0.1
_LONGEST = 60


def mistakes_of_manifest(path: Path, given: str) -> list[Mistake]:
    """A manifest that could not be written once the image is made."""
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        return [Mistake("manifest", f"must be a file in a folder that can be written to ({path})", given)]
    return []


def build_entry(
    *,
    name: str,
    builder: str,
    finished: float,
    artifact_id: str,
    run: UUID,
    custom_data: Mapping[str, str],
) -> dict[str, Any]:
    """One build.

    Args:
        name: The build's name.
        builder: The builder's type.
        finished: When it was made, in Unix seconds.
        artifact_id: The image, as the plugin of its cloud says it.
        run: The flow run.
        custom_data: What else it is to say.
    """
    return {
        "name": name,
        "builder_type": builder,
        "build_time": int(finished),
        "files": None,
        "artifact_id": artifact_id,
        "packer_run_uuid": str(run),
        "custom_data": dict(custom_data) or None,
    }


async def append_build(path: Path, entry: Mapping[str, Any]) -> None:
    """Append a build to a manifest, which is there as a whole at any time; builds side by side wait for each other.

    Raises:
        BakeryError: the file cannot be read or written, or is no manifest. It is left as it is.
    """
    try:
        async with _alone(path.parent):
            await asyncio.to_thread(_append, path, entry)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BakeryError(
            "the image is made, and its manifest could not be written",
            resource=f"manifest {path}",
            why=str(error),
            hint=f"The image is {entry['artifact_id']}. Mend the file, or name another one.",
        ) from error


def _append(path: Path, entry: Mapping[str, Any]) -> None:
    manifest: dict[str, Any] = {"builds": []}
    if path.exists():
        manifest = json.loads(path.read_text(encoding="utf-8"))
    # As a retry finds its own entry, so the run's last word counts.
    others = [build for build in manifest["builds"] or () if _identity(build) != _identity(entry)]
    whole = {**manifest, "builds": [*others, entry], "last_run_uuid": entry["packer_run_uuid"]}
    new = path.with_name(f".{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(json.dumps(whole, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        new.chmod(path.stat().st_mode & 0o777)
    new.replace(path)


def _identity(build: Mapping[str, Any]) -> tuple[Any, ...]:
    return build["packer_run_uuid"], build["name"], build["artifact_id"]


@asynccontextmanager
async def _alone(directory: Path) -> AsyncIterator[None]:
    """Hold the folder's lock: a lock file of our own would keep Packer away, which takes one that is there for held."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        await _locked(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


async def _locked(descriptor: int, directory: Path) -> None:
    try:
        async with asyncio.timeout(_LONGEST):
            while True:
                try:
                    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(_PAUSE)
    except TimeoutError:
        raise WaitExpired(
            f"others held the manifest's folder for {_LONGEST} s", resource=str(directory), hint="Name another one."
        ) from None
