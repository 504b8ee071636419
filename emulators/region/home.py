"""A region's state directory: private, and never shared by two servers."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emulators.region.records import write_private

_LOCK_TRIES, _LOCK_PAUSE = 20, 0.01


class RegionError(Exception):
    """Something that the person at the command line can set right. Its text says what to do."""


def _lock(descriptor: int) -> bool:
    # Someone who only looks who holds the lock has it for a moment.
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE)
        else:
            return True
    return False


class Home:
    """Where one region keeps everything."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.lock_file = self.directory / "lock"
        self.ready_file = self.directory / "region.json"
        self.log_file = self.directory / "region.log"

    def make(self) -> None:
        """Make the directory, closed to everyone else.

        Raises:
            RegionError: it belongs to someone else.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.directory.stat().st_uid != os.geteuid():
            raise RegionError(f"{self.directory} belongs to another user: choose another --state directory")
        self.directory.chmod(0o700)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for as long as this process serves from it.

        Raises:
            RegionError: another process does.
        """
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _lock(descriptor):
                raise RegionError(
                    f"a region already serves from {self.directory} (process {self.holder() or 'unknown'}): "
                    "use it, stop it with `down`, or choose another --state directory"
                )
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def holder(self) -> int | None:
        """The process that serves from here, or None. A recorded pid counts only while the lock is held."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(descriptor, 32, 0).decode().strip()
            return int(text) if text else None
        finally:
            os.close(descriptor)
        return None

    def recorded(self) -> dict[str, Any]:
        """What the last server said when it was ready; empty before the first."""
        try:
            loaded = json.loads(self.ready_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return loaded if isinstance(loaded, dict) else {}

    def ready(self) -> dict[str, Any] | None:
        """What the server that now serves from here said when it was ready, or None while there is none."""
        recorded, holder = self.recorded(), self.holder()
        return recorded if holder is not None and recorded.get("pid") == holder else None

    def record(self, ready: dict[str, Any]) -> None:
        """Note what a server says when it is ready."""
        write_private(self.ready_file, json.dumps(ready) + "\n")
