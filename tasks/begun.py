"""Which builds began on this host and have not been cleaned up: a hint where to look, never what there is.

One small file an attempt, in the state directory: a line that says whose and where, and a line for each temporary
resource as it is made. A build that ends cleans up and removes it; a later build of this host that finds one whose
process is gone looks in the same place for what it left. Where nobody can look, because the credentials are gone, the
file still says what to remove by hand. Builds of other hosts, and a state directory that is lost, are reclaim's
business.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from tasks import scratch
from tasks.dead import judge
from tasks.grounds import without_secrets
from tasks.mark import LOCAL_SERVER, Lineage, Mark


@dataclass(frozen=True)
class Made:
    """A temporary resource, as it was when it was made. It may be gone since."""

    resource: str
    """What it is, with its id."""
    remove_by_hand: str
    """A command by which a person removes it."""


@dataclass(frozen=True)
class Begun:
    """A build that began on this host and may have left something."""

    mark: Mark
    place: Mapping[str, Any]
    """Its ground, as JSON without the secrets."""
    made: Sequence[Made]
    file: Path


def begin(mark: Mark, ground: Mapping[str, Any]) -> None:
    """Write down that a build has begun, and where, without its credentials."""
    path = _file(mark.run, mark.attempt)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"mark": str(mark), "place": without_secrets(ground)}) + "\n", encoding="utf-8")
    new.replace(path)


def made(mark: Mark, resource: str, remove_by_hand: str) -> None:
    """Write down what a build has just made, if its begin was."""
    line = json.dumps({"resource": resource, "remove_by_hand": remove_by_hand}) + "\n"
    with suppress(OSError), _file(mark.run, mark.attempt).open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(line.encode())


def end(run: UUID, attempt: int) -> None:
    """Write down that nothing of an attempt, or of an earlier one of the same run, is left."""
    for earlier in range(1, attempt + 1):
        scratch.remove(run, earlier)
        with suppress(OSError):
            _file(run, earlier).unlink(missing_ok=True)


def dead_here(ground: Mapping[str, Any]) -> list[Mark]:
    """The marks of builds that began on this host, in this place, and may have left something."""
    place = without_secrets(ground)
    return [each.mark for each in dead() if each.place == place]


def dead() -> list[Begun]:
    """All builds that began on this host, whose processes are gone."""
    now = datetime.now(UTC)
    found = [each for path in sorted(scratch.builds_directory().glob("*.json")) if (each := _read(path)) is not None]
    return [each for each in found if judge(each.mark, now=now, server=LOCAL_SERVER, runs={}).remove]


def of(lineage: Lineage) -> list[Begun]:
    """What began on this host in a build's attempts so far, and in the run that it resumes."""
    found = [each for path in sorted(scratch.builds_directory().glob("*.json")) if (each := _read(path)) is not None]
    return [each for each in found if lineage.owns(each.mark)]


def _read(path: Path) -> Begun | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        first, *more = path.read_text(encoding="utf-8").splitlines()
        said = json.loads(first)
        mark = Mark.parse(said["mark"])
        if mark is not None:
            # The last line may be cut where the process was.
            return Begun(mark, said["place"], [made for line in more if (made := _read_made(line)) is not None], path)
    return None


def _read_made(line: str) -> Made | None:
    with suppress(ValueError, KeyError, TypeError):
        said = json.loads(line)
        return Made(said["resource"], said["remove_by_hand"])
    return None


def _file(run: UUID, attempt: int) -> Path:
    return scratch.builds_directory() / f"{run}-{attempt}.json"
