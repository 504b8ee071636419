"""Files into the jail and out of it. Paths there are resolved by a process whose root is the jail's."""

# System calls as they are: pathlib would only stand between.
# ruff: noqa: PTH101, PTH102, PTH112, PTH116, PTH118, PTH120

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
    """Write a directory's contents into one inside, with modes. Links become what they lead to.

    A directory that is there already keeps its mode.
    """
    made: list[tuple[str, int]] = []
    for root, directories, names in os.walk(source, onerror=_raise, followlinks=True):
        directories.sort()
        _refuse_loop(source, root)
        there = os.path.normpath(os.path.join(destination, os.path.relpath(root, source)))
        mode = stat.S_IMODE(os.stat(root).st_mode)
        with paths_inside(home):
            if not os.path.isdir(there):
                os.mkdir(there, 0o700)
                made.append((there, mode))
        for name in sorted(names):
            here = os.open(os.path.join(root, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            found = os.fstat(here)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is no regular file", os.path.join(root, name))
            with paths_inside(home):
                _fill(os.path.join(there, name), stat.S_IMODE(found.st_mode), here)
            os.close(here)
    with paths_inside(home):
        for there, mode in made:
            os.chmod(there, mode)


def read_file(home: Home, destination: int, source: str) -> None:
    """Write an open file of the host from a file inside, and give it its mode."""
    change_root(home)
    there = _open_regular(source)
    os.fchmod(destination, _plain_mode(os.fstat(there)))
    copy(there, destination)


def read_tree(home: Home, destination: int, source: str, made: bool) -> None:
    """Write an open directory of the host from a directory inside, with modes. Links become what they lead to inside.

    What cannot be copied, such as a socket or a link to nothing, does not keep the rest from being copied.

    Args:
        home: The jail.
        destination: The directory here. All below it is reached through it, since paths lead into the jail.
        source: The directory there.
        made: Whether the destination was made for this, and takes the source's mode.
    """
    change_root(home)
    there = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    left: list[str] = []
    _read_directory(there, destination, source.rstrip("/"), (), left)
    if made:
        os.fchmod(destination, _plain_mode(os.fstat(there)))
    if left:
        raise OSError(errno.EINVAL, f"{'; '.join(left)}. All else was copied")


def _read_directory(there: int, here: int, path: str, above: tuple[tuple[int, int], ...], left: list[str]) -> None:
    found = os.fstat(there)
    identity = (found.st_dev, found.st_ino)
    if identity in above:
        left.append(f"{path} is a link to a directory that it is in")
        return
    for name in sorted(os.listdir(there)):
        try:
            _read_entry(there, here, name, path, (*above, identity), left)
        except OSError as error:
            left.append(f"{path}/{name}: {error.strerror}")


def _read_entry(
    there: int, here: int, name: str, path: str, above: tuple[tuple[int, int], ...], left: list[str]
) -> None:
    found = os.stat(name, dir_fd=there)
    if stat.S_ISDIR(found.st_mode):
        try:
            os.mkdir(name, 0o700, dir_fd=here)
            made = True
        except FileExistsError:
            made = False
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=there)
        ours = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=here)
        try:
            _read_directory(inner, ours, f"{path}/{name}", above, left)
            if made:
                os.fchmod(ours, _plain_mode(found))
        finally:
            os.close(inner)
            os.close(ours)
        return
    source = _open_regular(name, there)
    try:
        ours = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=here)
        try:
            os.fchmod(ours, _plain_mode(found))
            copy(source, ours)
        finally:
            os.close(ours)
    finally:
        os.close(source)


def _open_regular(path: str, directory: int | None = None) -> int:
    # A pipe without a writer would hold up an open that may block.
    there = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(there).st_mode):
        os.close(there)
        raise OSError(errno.EINVAL, "it is no regular file", path)
    return there


def _plain_mode(found: os.stat_result) -> int:
    """The permission bits, without those by which a program of the image would run as someone else here."""
    return stat.S_IMODE(found.st_mode) & 0o777


def _refuse_loop(top: str, path: str) -> None:
    """Refuse a directory that is reached through a link from inside itself: a copy of it would have no end."""
    identity = os.stat(path)
    while len(path) > len(top):
        path = os.path.dirname(path)
        if os.path.samestat(identity, os.stat(path)):
            raise OSError(errno.ELOOP, "a link in it leads to a directory that it is in", path)


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
