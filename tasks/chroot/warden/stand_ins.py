"""Files of the host that stand in for the image's own while it is provisioned, such as `/etc/resolv.conf`.

The image's own is renamed and comes back by another rename: the same inode, so whatever it was (a file, a symlink that
leads anywhere or nowhere) and with all that belongs to it.
"""

# System calls as they are: pathlib would only stand between.
# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH112, PTH114, PTH118, PTH120, PTH123

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from typing import Any

from tasks.chroot.warden.files import copy
from tasks.chroot.warden.inside import Home, change_root

_ASIDE = ".{}.image-bakery"


def copy_in(home: Home, path: str) -> dict[str, Any]:
    """Put the host's file at the same path inside, and return what `put_back` needs."""
    source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    found = os.fstat(source)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file on the host", path)
    change_root(home)
    parent, name = os.path.split(os.path.normpath(path))
    made = _make_directories(parent)
    aside = os.path.join(parent, _ASIDE.format(name))
    if os.path.isdir(path) and not os.path.islink(path):
        raise OSError(errno.EISDIR, "it is a directory in the image", path)
    # One that is there already is the image's own: an earlier attempt put it aside and never got to put it back.
    if os.path.lexists(path) and not os.path.lexists(aside):
        os.rename(path, aside)
    with suppress(FileNotFoundError):
        os.unlink(path)
    there = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    copy(source, there)
    os.fchmod(there, stat.S_IMODE(found.st_mode))
    os.close(there)
    return {"path": path, "aside": aside, "made": made, "was": _looks(path)}


def put_back(home: Home, path: str, aside: str, made: list[str], was: list[Any]) -> bool:
    """Make it as it was, unless somebody changed it since `copy_in`. Returns whether it is as it was."""
    change_root(home)
    changed = _looks(path) != was
    if changed:
        with suppress(FileNotFoundError):
            os.unlink(aside)
    elif os.path.lexists(aside):
        os.rename(aside, path)
    else:
        os.unlink(path)
    for directory in reversed(made):
        with suppress(OSError):  # in use by now, so it stays
            os.rmdir(directory)
    return not changed


def _make_directories(path: str) -> list[str]:
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        os.mkdir(directory, 0o755)
    return missing[::-1]


def _looks(path: str) -> list[Any]:
    """What a change would show in. A rewrite with the same contents is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return []
    if not stat.S_ISREG(found.st_mode):
        return [found.st_mode]
    with open(path, "rb") as contents:
        digest = hashlib.file_digest(contents, "sha256").hexdigest()
    return [found.st_mode, found.st_uid, found.st_gid, digest]
