"""A directory of this host as it is copied: what there is, with nothing silently left out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Directory:
    """One directory of the tree."""

    path: Path
    inside: str
    """Its path inside the tree, with `/`; empty for the tree itself."""
    mode: int
    files: tuple[str, ...]


def walk(root: Path) -> Iterator[Directory]:
    """The directories of a tree, each before those inside it, with the names of its files.

    Links are followed, to files and to directories, as `scp -r` and `cp -rL` do.

    Raises:
        OSError: something cannot be copied: a link that leads nowhere or back to a directory above it, a device, a
            socket, a named pipe.
    """
    yield from _walk(root, "", ())


def _walk(path: Path, inside: str, above: tuple[tuple[int, int], ...]) -> Iterator[Directory]:
    found = path.stat()
    identity = (found.st_dev, found.st_ino)
    if identity in above:
        raise OSError(f"{path} is a link to a directory that it is in: a copy of it would have no end")
    files, directories = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            mode = Path(entry.path).stat().st_mode
            if stat.S_ISDIR(mode):
                directories.append(entry.name)
            elif stat.S_ISREG(mode):
                files.append(entry.name)
            else:
                raise OSError(f"{entry.path} is neither a file nor a directory")
    yield Directory(path, inside, stat.S_IMODE(found.st_mode), tuple(sorted(files)))
    for name in sorted(directories):
        yield from _walk(path / name, f"{inside}/{name}" if inside else name, (*above, identity))


def write_here(destination: Path, mode: int) -> int:
    """Open a file of this host for writing, readable by nobody else before it has its mode; returns its descriptor.

    What is there and no regular file, such as a terminal, keeps its mode.
    """
    descriptor = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, mode & 0o777)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class HereDirectories:
    """Directories that a copy makes on this host. Those it made get their modes at the end, when all is in them."""

    def __init__(self) -> None:
        self._made: list[tuple[Path, int]] = []

    def make(self, path: Path, mode: int) -> None:
        """Make one if it is not there; one that is keeps its mode."""
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if not path.is_dir():
                raise
        else:
            self._made.append((path, mode & 0o777))

    def finish(self) -> None:
        """Give them their modes, the innermost first."""
        for path, mode in reversed(self._made):
            path.chmod(mode)
