"""The directory that a jail's root is mounted on: made where it is missing, shared by jails, removed by the last."""

# System calls as they are: pathlib would only stand between.
# ruff: noqa: PTH102, PTH106, PTH112, PTH116, PTH120

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

_MARK = "trusted.image-bakery.made"
"""Says of a directory that builds made it (xattr(7)), so that the last to use it may remove it, whoever made it."""


class MountPoint:
    """A directory and the parents made for it.

    Whoever removes a directory takes the mounts away that others have on it in mount namespaces of their own, without
    an error to anybody (since Linux 3.19). So each jail that uses it holds a shared lock on it (flock(2)), which ends
    with the jail whatever ends that, and only who is alone with it removes it.

    Args:
        path: Where it is.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._held = -1
        self._made: set[str] = set()

    def take(self) -> None:
        """Make it if it is missing, and hold it.

        Raises:
            OSError: it could not be made.
        """
        while self._held < 0:
            self._make(self._path)
            # Another build may remove it, or a parent, at this very moment.
            with suppress(FileNotFoundError):
                held = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(held, fcntl.LOCK_SH)
                if _is(held, self._path):
                    self._held = held
                else:
                    os.close(held)

    def release(self) -> None:
        """Let go of it, and remove what builds made and nobody else uses. It must not be mounted here any more."""
        held, self._held = self._held, -1
        directory = self._path
        while _removed(directory, held, is_ours=directory in self._made):
            directory, held = os.path.dirname(directory), -1

    def _make(self, path: str) -> None:
        while not os.path.isdir(path):
            missing = path
            while not os.path.isdir(os.path.dirname(missing)):
                missing = os.path.dirname(missing)
            with suppress(FileExistsError, FileNotFoundError):
                os.mkdir(missing, 0o755)
                self._made.add(missing)
                with suppress(OSError):  # a file system without such marks: then it is its maker's alone to remove
                    os.setxattr(missing, _MARK, b"1", os.XATTR_CREATE)


def _is(held: int, path: str) -> bool:
    return os.path.samestat(os.fstat(held), os.stat(path))


def _removed(directory: str, held: int, *, is_ours: bool) -> bool:
    """Remove a directory that is a build's, empty, and nobody's any more. True if it is gone."""
    try:
        if held < 0:
            held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not is_ours:
            os.getxattr(held, _MARK)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is(held, directory):
            os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    else:
        return True
    finally:
        if held >= 0:
            os.close(held)
