"""How many requests a second one account sends to one endpoint, all builds of a host together.

The cloud counts requests by account, when they reach it: somewhere between their sending and their reply. So the last
requests are in one small file for each endpoint and access key, and every process of this host has its slots there:
builds, hooks and reapers. A slot is free again a second after its reply, so that whatever a request's way there takes,
no second at the cloud sees more than the rate. A reply that is slow does not hold its slot up for long: a request is
taken to have arrived `_WAY` after it was sent.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import itertools
import json
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from blocks.settings import settings

log = logging.getLogger("image_bakery.outscale")

_SECOND = 1_000_000_000
_WINDOW = _SECOND + _SECOND // 200
"""A slot's rest (nanoseconds): a second at the server, and what clocks round off."""
_WAY = _SECOND // 2
"""How long a request may be on its way: through this host's and the cloud's queues."""
_MOST = 100
_LOCK_TIME = 5.0
_UNKNOWN = "unknown"

_numbers = itertools.count(1)


@dataclass
class _Slot:
    """One request."""

    name: str
    sent: int
    replied: int = 0
    """0: not yet."""

    @property
    def free_at(self) -> int:
        late = self.sent + _WAY
        return (min(self.replied, late) if self.replied else late) + _WINDOW


class SharedRate:
    """At most `per_second` requests in any second, over all processes that name the same file.

    Where the file cannot be used (no space, no rights, its lock held by a process that was stopped), this process keeps
    to the rate alone and a warning says so: a teardown must not fail for this.

    Args:
        path: The file. It and its directory are made when needed, for this user alone.
        per_second: The rate, 1 to 100.
    """

    def __init__(self, path: Path, per_second: int) -> None:
        if not 1 <= per_second <= _MOST:
            raise ValueError(f"a rate is 1 to {_MOST} requests a second")
        self._path = path
        self._per_second = per_second
        self._alone: list[_Slot] = []
        self._replied: dict[str, int] = {}
        """Replies that are not in the file yet."""
        self._warned = False

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Around a request: it begins when one may be sent, and ends with its reply. Waiting can be cancelled."""
        slot = await self._have()
        try:
            yield
        finally:
            slot.replied = _now()
            self._replied[slot.name] = slot.replied
            self._note_replies()

    async def _have(self) -> _Slot:
        give_up = time.monotonic() + _LOCK_TIME
        while True:
            pause = random.uniform(0.001, 0.01)  # noqa: S311
            try:
                with self._slots() as slots:
                    slot = self._take(slots)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    return await self._have_alone(f"its lock was held for {_LOCK_TIME:g} s")
            except OSError as error:
                return await self._have_alone(error.strerror or str(error))
            else:
                if slot is not None:
                    return slot
                pause += max(0, min(held.free_at for held in slots) - _now()) / _SECOND
                give_up = time.monotonic() + pause + _LOCK_TIME
            await asyncio.sleep(pause)

    async def _have_alone(self, why: str) -> _Slot:
        if not self._warned:
            log.warning("%s: %s. This process keeps to the request rate by itself.", self._path, why)
            self._warned = True
        while True:
            if slot := self._take(self._alone):
                return slot
            await asyncio.sleep(max(0, min(held.free_at for held in self._alone) - _now()) / _SECOND)

    def _take(self, slots: list[_Slot]) -> _Slot | None:
        """Take a slot, unless all are in use. Those that are free again are forgotten."""
        now = _now()
        slots[:] = [slot for slot in slots if slot.free_at > now]
        if len(slots) >= self._per_second:
            return None
        slot = _Slot(f"{os.getpid()}-{next(_numbers)}", now)
        slots.append(slot)
        return slot

    def _note_replies(self) -> None:
        try:
            with self._slots():
                pass
        except BlockingIOError:
            # Others see it late, which costs them some of that time.
            asyncio.get_running_loop().call_later(0.005, self._note_replies)
        except OSError:
            self._replied.clear()

    @contextmanager
    def _slots(self) -> Iterator[list[_Slot]]:
        """The slots in the file, under its lock; what they are afterwards is written.

        Raises:
            BlockingIOError: another process has it just now.
            OSError: it cannot be used.
        """
        for directory in (self._path.parent.parent, self._path.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The kernel gives the lock up when its holder dies, however it dies.
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            slots = self._read(file)
            for slot in slots:
                slot.replied = self._replied.get(slot.name, slot.replied)
            yield slots
            held = [[slot.name, slot.sent, slot.replied] for slot in slots]
            text = json.dumps({"boot": _boot(), "slots": held}).encode()
            os.pwrite(file, text, 0)
            os.ftruncate(file, len(text))
            self._replied.clear()
        finally:
            os.close(file)

    def _read(self, file: int) -> list[_Slot]:
        """The slots in use, oldest first. What cannot be read counts as a whole second's requests, just now."""
        data = os.pread(file, 64 * 1024, 0)
        if not data:
            return []
        now = _now()
        unknown = [_Slot(_UNKNOWN, now, now) for _ in range(self._per_second)]
        try:
            held = json.loads(data)
            boot, slots = held["boot"], [_Slot(str(name), int(sent), int(reply)) for name, sent, reply in held["slots"]]
        except (ValueError, KeyError, TypeError):
            return unknown
        if boot != _boot():
            return []
        return unknown if any(max(slot.sent, slot.replied) > now for slot in slots) else slots


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
