"""How many requests a second one account sends to one endpoint, all builds of a host together.

The cloud counts requests by account. So the times of the last requests are in one small file for each endpoint and
access key, and every process of this host takes its turns there: builds, hooks and reapers. A turn is a time at which
a request may be sent; turns that are not used are lost, so a process that dies or is cancelled owes nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import random
import time
from functools import cache
from pathlib import Path

from blocks.settings import settings

log = logging.getLogger("image_bakery.outscale")

_SECOND = 1_000_000_000
WINDOW = _SECOND + _SECOND // 10
"""No more than the rate within this time (nanoseconds): a second at the server, and what the way there may differ."""
_LATE = _SECOND // 20
"""A turn that is used later than this could meet the turns of others."""
_KEPT = 100
"""Turns in the file: as many as the highest rate that the setting allows."""
_FAR = 3600 * _SECOND
"""No queue is that long: a turn that is further ahead was written by no one."""
_LOCK_TIME = 5.0


class SharedRate:
    """At most `per_second` turns in any second, over all processes that name the same file.

    Where the file cannot be used (no space, no rights, its lock held by a process that was stopped), turns are taken in
    this process alone and a warning says so: a teardown must not fail for this.

    Args:
        path: The file. It and its directory are made when needed, for this user alone.
        per_second: The rate, 1 to 100.
    """

    def __init__(self, path: Path, per_second: int) -> None:
        if not 1 <= per_second <= _KEPT:
            raise ValueError(f"a rate is 1 to {_KEPT} requests a second")
        self._path = path
        self._per_second = per_second
        self._alone: list[int] = []
        self._warned = False

    async def turn(self) -> None:
        """Wait until a request may be sent. Cancelling it is harmless; its turn is lost."""
        while True:
            turn = await self._take()
            await asyncio.sleep(max(0, turn - _now()) / _SECOND)
            if _now() - turn <= _LATE:
                return

    async def _take(self) -> int:
        give_up = time.monotonic() + _LOCK_TIME
        while True:
            try:
                return self._take_in_file()
            except BlockingIOError:
                if time.monotonic() > give_up:
                    return self._take_alone(f"its lock was held for {_LOCK_TIME:g} s")
            except OSError as error:
                return self._take_alone(error.strerror or str(error))
            await asyncio.sleep(random.uniform(0.001, 0.01))  # noqa: S311

    def _take_alone(self, why: str) -> int:
        if not self._warned:
            log.warning("%s: %s. This process keeps to the request rate by itself.", self._path, why)
            self._warned = True
        turn = self._next(self._alone)
        self._alone = [*self._alone, turn][-_KEPT:]
        return turn

    def _take_in_file(self) -> int:
        for directory in (self._path.parent.parent, self._path.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The kernel gives the lock up when its holder dies, however it dies.
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            turns = self._read(file)
            turn = self._next(turns)
            text = json.dumps({"boot": _boot(), "turns": [*turns, turn][-_KEPT:]}).encode()
            os.pwrite(file, text, 0)
            os.ftruncate(file, len(text))
            return turn
        finally:
            os.close(file)

    def _next(self, turns: list[int]) -> int:
        now = _now()
        return max(now, turns[-self._per_second] + WINDOW) if len(turns) >= self._per_second else now

    def _read(self, file: int) -> list[int]:
        """The turns that were taken, oldest first. What cannot be read counts as a whole second's turns, just now."""
        data = os.pread(file, 64 * 1024, 0)
        if not data:
            return []
        now = _now()
        unknown = [now] * self._per_second
        try:
            held = json.loads(data)
            boot, turns = held["boot"], [int(turn) for turn in held["turns"]]
        except (ValueError, KeyError, TypeError):
            return unknown
        if boot != _boot():
            return []
        return turns if turns == sorted(turns) and (not turns or turns[-1] < now + _FAR) else unknown


def shared_rate(endpoint: str, access_key: str) -> SharedRate:
    """The rate for one endpoint and account on this host (settings `outscale_rate` and `state_dir`).

    The access key is not in the file's name, only a hash of both.
    """
    name = hashlib.sha256(f"{endpoint.rstrip('/')}\n{access_key}".encode()).hexdigest()[:32]
    path = settings().state_dir.expanduser() / "outscale-rate" / name
    return _shared(path, settings().outscale_rate)


@cache
def _shared(path: Path, per_second: int) -> SharedRate:
    # One for all clients of this process: where the file cannot be used, they still share a rate.
    return SharedRate(path, per_second)


def _now() -> int:
    # No one sets this clock, all processes share it, and it goes on while the host sleeps.
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
