"""A built guest image on disk: what it is, and building it only when needed and as a whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from emulators.guests.run import progress


@dataclass(frozen=True)
class Image:
    """The content of `image.json`."""

    name: str
    """What the region calls the image."""
    description: str
    os: str
    version: str


def read_image(directory: Path) -> Image:
    """Read a built image's `image.json`.

    Raises:
        OSError: there is no image.
        ValueError: the file is not what `write_image` writes.
    """
    try:
        data = json.loads((directory / "image.json").read_text())
        return Image(**{name: data[name] for name in ("name", "description", "os", "version")})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{directory / 'image.json'} is no image description: {error}") from error


def build_image(directory: Path, stamp: str, build: Callable[[Path, Path], Image]) -> bool:
    """Build an image into `directory` unless it is there with the same `stamp`; say whether it was built.

    `build` gets the directory to fill and one for temporary files. Only a finished image gets its name, and builds of
    the same image wait for each other.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _lock(directory.with_name(f".{directory.name}.lock")):
        if _stamp(directory) == stamp:
            progress(f"{directory} is up to date")
            return False
        for leftover in directory.parent.glob(f".{directory.name}.new-*"):
            shutil.rmtree(leftover)
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}.new-", dir=directory.parent) as temporary:
            new, work = Path(temporary, "image"), Path(temporary, "work")
            new.mkdir()
            work.mkdir()
            image = build(new, work)
            (new / "image.json").write_text(json.dumps({**asdict(image), "builder": stamp}, indent=2) + "\n")
            if directory.exists():
                os.rename(directory, Path(temporary, "old"))  # noqa: PTH104
            new.rename(directory)
        progress(f"{directory} built in {time.monotonic() - start:.0f} s")
        return True


def _stamp(directory: Path) -> str | None:
    try:
        stamp = json.loads((directory / "image.json").read_text())["builder"]
    except (OSError, ValueError, KeyError):
        return None
    return str(stamp)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another build of the same image")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
