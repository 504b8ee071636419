"""The mark as OUTSCALE's resources carry it: in client tokens, in a tag, and in an OMI's description.

A volume and a snapshot have the run, the attempt and the step in the ClientToken of their create (which also makes the
create repeatable), and right after it the whole mark as the value of a tag. An OMI has neither at its create: its mark
is its description. The snapshots of a copied OMI have no token either, and are tagged as soon as the copy names them.
What is finished has `artifact` as the tag's value, and is never removed again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from blocks.outscale.models import Tag
from tasks.mark import UNKNOWN_SERVER, HostProcess, Lineage, Mark

TAG = "image-bakery"
RUN_TAG = "image-bakery-run"
"""Whose a copy's snapshots are, so that one run's are found: what the region makes by itself has no client token."""
DESCRIPTION_TAG = "image-bakery-description"
"""On the temporary OMI of a replacement: the description that the final one gets, whoever finishes it."""
STAGE_TAG = "image-bakery-stage"
"""On the volume of a build that may be kept: how far it has come."""
OWN_TAGS = frozenset({TAG, RUN_TAG, DESCRIPTION_TAG, STAGE_TAG})
ARTIFACT = "artifact"
STEPS = ("volume", "snapshot")

_TOKEN = re.compile(r"bakery-(?P<run>[0-9a-f]{32})-(?P<attempt>[1-9]\d*)-(?P<step>[a-z]+)")
_NOBODY = HostProcess("00000000-0000-0000-0000-000000000000", 0, 0, 0)
_UNKNOWN = timedelta(hours=24)
_ATTEMPTS = 20
"""How many attempts a run that is resumed may have had: nobody tells."""


def client_token(run: UUID, attempt: int, step: str) -> str:
    """The token of one step's create: at most 64 of `[A-Za-z0-9-]`."""
    return f"bakery-{run.hex}-{attempt}-{step}"


def tokens(lineage: Lineage) -> list[str]:
    """All tokens that a build may have used, in this attempt, the earlier ones, and in the run that it resumes."""
    attempts = {lineage.run: lineage.attempt}
    if lineage.resumes:
        attempts[lineage.resumes] = _ATTEMPTS
    return [
        client_token(run, attempt, step)
        for run, last in attempts.items()
        for attempt in range(1, last + 1)
        for step in STEPS
    ]


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
    return Mark(UUID(match["run"]), int(match["attempt"]), UNKNOWN_SERVER, _NOBODY, until=created + _UNKNOWN)
