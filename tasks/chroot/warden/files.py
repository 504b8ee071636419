"""Files into the jail and out of it. Paths there are resolved by a process whose root is the jail's."""

# System calls as they are: pathlib would only stand between.
# ruff: noqa: PTH101, PTH102, PTH112, PTH116, PTH118

from __future__ import annotations

import errno
import os
import stat

from tasks.chroot.warden.inside import Home, change_root, paths_inside

_CHUNK = 1 << 20


def write_file(home: Home, source: int, destination: str, mode: int) -> None:
    """Write a file inside from an open file of the host."""
    change_root(home)
    _fill(destination, mode, source)


def write_tree(home: Home, source: str, destination: str) -> None:
    """Write a directory's contents into one inside, with modes. Links to files become what they lead to."""
    for root, directories, names in os.walk(source, onerror=_raise):
        directories.sort()
        there = os.path.normpath(os.path.join(destination, os.path.relpath(root, source)))
        mode = stat.S_IMODE(os.stat(root).st_mode)
        with paths_inside(home):
            if not os.path.isdir(there):
                os.mkdir(there)
            os.chmod(there, mode)
        for name in sorted(names):
            here = os.open(os.path.join(root, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            found = os.fstat(here)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is no regular file", os.path.join(root, name))
            with paths_inside(home):
                _fill(os.path.join(there, name), stat.S_IMODE(found.st_mode), here)
            os.close(here)


def read_file(home: Home, destination: int, source: str) -> None:
    """Write an open file of the host from a file inside."""
    change_root(home)
    # A pipe without a writer would hold up an open that may block.
    there = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(there).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", source)
    copy(there, destination)


def copy(source: int, destination: int) -> None:
    """Copy from here to its end, a piece at a time."""
    while data := os.read(source, _CHUNK):
        left = memoryview(data)
        while left:
            left = left[os.write(destination, left) :]


def _fill(path: str, mode: int, source: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    there = os.open(path, flags, mode & 0o700)
    if not stat.S_ISREG(os.fstat(there).st_mode):
        raise OSError(errno.EINVAL, "it is there and no regular file", path)
    # Mode before contents, which may be a secret.
    os.fchmod(there, mode)
    os.ftruncate(there, 0)
    copy(source, there)
    os.close(there)


def _raise(error: OSError) -> None:
    raise error
