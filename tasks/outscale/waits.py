"""Waiting for the region, with as few requests as its rate allows and as many as it takes to see an end at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from blocks.errors import EndedBadly
from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import Image, Snapshot, Volume
from blocks.settings import settings
from tasks.waiting import poll

T = TypeVar("T")

_SHARE = 10
"""A wait takes at most one in so many of the requests that the rate allows, so that builds side by side get theirs."""


async def look_until(
    look: Callable[[], Awaitable[T]],
    done: Callable[[T], bool],
    *,
    what: str,
    resource: str,
    timeout: float,
    describe: Callable[[T], str],
) -> T:
    """Look until `done` says so; see `tasks.waiting.poll`. The pauses grow to what the request rate allows."""
    longest = min(settings().poll_longest, max(settings().poll_first, _SHARE / settings().outscale_rate))
    return await poll(look, done, what=what, resource=resource, timeout=timeout, describe=describe, longest=longest)


async def wait_for_volume(client: OutscaleClient, volume_id: str, timeout: float) -> Volume:
    """Wait until a volume is available.

    Raises:
        EndedBadly: it never will be.
        WaitExpired: it is not by then.
    """

    def done(volume: Volume) -> bool:
        if volume.state in ("error", "deleting"):
            raise EndedBadly(
                f"the volume is in state {volume.state}",
                resource=f"volume {volume_id}",
                hint="Run the build again; if it repeats, ask OUTSCALE's support with the volume's id.",
            )
        return volume.state == "available"

    return await look_until(
        lambda: client.volume(volume_id),
        done,
        what="available",
        resource=f"volume {volume_id}",
        timeout=timeout,
        describe=lambda volume: volume.state,
    )


async def wait_for_snapshot(client: OutscaleClient, snapshot_id: str, timeout: float) -> Snapshot:
    """Wait until a snapshot is completed.

    Raises:
        EndedBadly: it never will be.
        WaitExpired: it is not by then.
    """

    def done(snapshot: Snapshot) -> bool:
        if snapshot.state in ("error", "deleting"):
            raise EndedBadly(
                f"the snapshot is in state {snapshot.state}",
                resource=f"snapshot {snapshot_id}",
                hint="Run the build again; if it repeats, ask OUTSCALE's support with the snapshot's id.",
            )
        return snapshot.state == "completed"

    return await look_until(
        lambda: client.snapshot(snapshot_id),
        done,
        what="completed",
        resource=f"snapshot {snapshot_id}",
        timeout=timeout,
        describe=lambda snapshot: f"{snapshot.state}, {snapshot.progress} %",
    )


async def wait_for_omi(client: OutscaleClient, omi: Image, timeout: float) -> Image:
    """Wait until an OMI is available.

    Raises:
        EndedBadly: it never will be.
        WaitExpired: it is not by then.
    """

    def done(image: Image) -> bool:
        if image.state == "failed":
            raise EndedBadly(
                "the OMI failed",
                resource=f"OMI {image.image_name} ({image.image_id})",
                why=image.state_comment.state_message,
                hint="Run the build again; if it repeats, ask OUTSCALE's support with the OMI's id.",
            )
        return image.state == "available"

    return await look_until(
        lambda: client.image(omi.image_id),
        done,
        what="available",
        resource=f"OMI {omi.image_name} ({omi.image_id})",
        timeout=timeout,
        describe=lambda image: image.state,
    )
