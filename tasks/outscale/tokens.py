"""The mark as OUTSCALE's resources carry it: in client tokens, in a tag, and in an OMI's description.

A volume and a snapshot have the run, the attempt and the step in the ClientToken of their create (which also makes the
create repeatable), and right after it the whole mark as the value of a tag. An OMI has neither at its create: its mark
is its description. What is finished has `artifact` as the tag's value, and is never removed again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from blocks.outscale.models import Tag
from tasks.mark import HostProcess, Mark

TAG = "image-bakery"
ARTIFACT = "artifact"
STEPS = ("volume", "snapshot")

_TOKEN = re.compile(r"bakery-(?P<run>[0-9a-f]{32})-(?P<attempt>[1-9]\d*)-(?P<step>[a-z]+)")
_NOBODY = HostProcess("00000000-0000-0000-0000-000000000000", 0, 0, 0)
_UNKNOWN = timedelta(hours=24)


def client_token(run: UUID, attempt: int, step: str) -> str:
    """The token of one step's create: at most 64 of `[A-Za-z0-9-]`."""
    return f"bakery-{run.hex}-{attempt}-{step}"


def tokens(run: UUID, attempts: int) -> list[str]:
    """All tokens that a run may have used, up to one of its attempts."""
    return [client_token(run, attempt, step) for attempt in range(1, attempts + 1) for step in STEPS]


def values(tags: Sequence[Tag]) -> Mapping[str, str]:
    """Tags by their keys."""
    return {tag.key: tag.value for tag in tags}


def mark_of(tags: Sequence[Tag], token: str, created: datetime | None) -> Mark | None:
    """The mark of a volume or a snapshot, or None when it is not ours or is finished.

    One that was killed between its create and its tag has a token alone. It counts by the run in that; nobody who does
    not know the run may remove it before it is a day old.
    """
    said = values(tags).get(TAG)
    if said is not None:
        return None if said == ARTIFACT else Mark.parse(said)
    match = _TOKEN.fullmatch(token)
    if match is None or created is None:
        return None
    return Mark(UUID(match["run"]), int(match["attempt"]), "unknown", _NOBODY, until=created + _UNKNOWN)
