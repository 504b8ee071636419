"""Digests of what is said and of the files of this host that it names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks.provisioners.common import on_this_host

_DIGESTED = 16 * 2**20
"""Of the files that one thing names, so many bytes count with their contents; what is beyond, with its size."""


def digest_of(said: Any, files: Iterable[tuple[str, str]], base: Path) -> str:
    """A digest of what is said, and of what stands in files. It reads them: call it in a thread.

    Args:
        said: Anything that JSON can say.
        files: Which option names a file or a folder of this host, and its path as it stands there. What is not there
            counts as nothing.
        base: Directory against which relative paths resolve.
    """
    digest = hashlib.sha256(_canonical(said))
    room = _DIGESTED
    for option, path in files:
        for name, file in _files(on_this_host(base, path)):
            size = file.stat().st_size
            digest.update(_canonical([option, name, size]))
            if size <= room:
                room -= size
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _canonical(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield str(file.relative_to(path)), file
    elif path.is_file():
        yield "", path
