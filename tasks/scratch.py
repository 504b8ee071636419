"""Private directories of a build on this host, which whoever cleans up after it finds, too.

Their paths stand in a file beside the one that says that the build has begun (`tasks.begun`), written before they are
made: a process that is killed removes nothing.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from blocks.settings import settings

_RANDOM = 8
_OURS = re.compile(rf"image-bakery-[0-9a-f]{{{2 * _RANDOM}}}")


@contextmanager
def scratch(run: UUID | None, attempt: int, place: Path | None = None) -> Iterator[Path]:
    """A directory for us alone, for as long as the block.

    Args:
        run: The flow run; None: of nobody that is cleaned up after.
        attempt: Which of its attempts.
        place: Where; by default where temporary files go (`TMPDIR`).

    Raises:
        OSError: it cannot be made.
    """
    directory = (place or Path(tempfile.gettempdir())) / f"image-bakery-{secrets.token_hex(_RANDOM)}"
    if run is not None:
        _note(run, attempt, directory)
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def remove(run: UUID, attempt: int) -> None:
    """Remove the directories of an attempt that is over. It can be repeated."""
    file = _file(run, attempt)
    with suppress(OSError):
        for line in file.read_text(encoding="utf-8").splitlines():
            # On a full disk a line may have been cut: what is left of it is somebody else's directory.
            if _OURS.fullmatch(Path(line).name):
                shutil.rmtree(line, ignore_errors=True)
        file.unlink()


def _note(run: UUID, attempt: int, directory: Path) -> None:
    file = _file(run, attempt)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(f"{directory}\n")


def _file(run: UUID, attempt: int) -> Path:
    return builds_directory() / f"{run}-{attempt}.scratch"


def builds_directory() -> Path:
    """Where this host keeps what it knows of builds that began here."""
    return settings().state_dir.expanduser() / "builds"
