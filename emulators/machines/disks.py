"""Disk files: sparse copies, made by `cp` because it knows reflinks and holes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path


async def run(argv: Sequence[str | Path]) -> None:
    """Run a program to its end; a cancellation ends it.

    Raises:
        OSError: it is missing or failed; holds its standard error.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C.UTF-8", "PATH": tools_path()},
    )
    try:
        _, errors = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise OSError(f"{argv[0]} failed: {errors.decode(errors='replace').strip()[-1000:]}")


def tools_path() -> str:
    """PATH with the directories of system tools, which an ordinary user's PATH lacks on Debian."""
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"


async def copy_disk(source: Path, target: Path, size: int, *, may_have_grown: bool = False) -> None:
    """Copy a disk file sparsely and grow it to `size` bytes. A target appears when it is whole.

    A source that has grown since the copy was asked for is copied as far as it was then.

    Raises:
        OSError: the copy failed (no source, no room).
        ValueError: the source is bigger than `size`, and did not grow to that.
    """
    if not may_have_grown:
        check_fits(source, size)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        await run(["cp", "--reflink=auto", "--sparse=always", "--", source, temporary])
        os.truncate(temporary, size)
        os.rename(temporary, target)  # noqa: PTH104
    except BaseException:
        delete_disk(temporary)
        raise


async def share_disk(source: Path, target: Path, size: int) -> None:
    """Have a disk file of the same data as another, neither of which is ever written to.

    Raises:
        OSError: the copy failed.
        ValueError: the source is bigger than `size`.
    """
    if not _linked(source, target, size):
        await copy_disk(source, target, size)


def _linked(source: Path, target: Path, size: int) -> bool:
    """Whether the target could be made another name of the source."""
    if source.stat().st_size != size:
        return False
    try:
        target.hardlink_to(source)
    except OSError:  # on another file system, or there already
        return False
    return True


def check_fits(source: Path, size: int) -> None:
    """Raise ValueError if a disk has more than `size` bytes: a copy would cut it."""
    has = source.stat().st_size
    if has > size:
        raise ValueError(f"{source} has {has} bytes and does not fit into {size}")


def delete_disk(path: Path) -> None:
    """Delete a disk file; it may be gone already."""
    path.unlink(missing_ok=True)


def make_blank(path: Path, size: int) -> None:
    """Make a disk that is one hole."""
    with path.open("wb") as file:
        file.truncate(size)
