"""What a serial port has said: the first and the last MiB of it."""

from __future__ import annotations

MIB = 1024 * 1024


class RingConsole:
    """A serial console's history. Offsets are absolute; bytes between what is kept are gone."""

    def __init__(self, keep: int = MIB) -> None:
        self._keep = keep
        self._first = bytearray()
        self._last = bytearray()
        self._total = 0

    @property
    def total(self) -> int:
        """How many bytes were ever written."""
        return self._total

    def write(self, data: bytes) -> None:
        """Append what the guest has written."""
        self._total += len(data)
        room = self._keep - len(self._first)
        self._first += data[:room]
        self._last += data[room:] if room > 0 else data
        # Trimmed rarely: dropping the front of a bytearray at every write would copy a MiB for a line.
        if len(self._last) > 2 * self._keep:
            del self._last[: -self._keep]

    def read(self, start: int, limit: int) -> bytes:
        """At most `limit` bytes from offset `start`, or from the next byte that is kept."""
        start = self.kept_from(max(start, 0))
        if start < len(self._first):
            return bytes(self._first[start : start + limit])
        offset = len(self._last) - (self._total - start)
        return bytes(self._last[offset : offset + limit])

    def kept_from(self, start: int) -> int:
        """The first offset from `start` on whose byte is still there, or will come."""
        oldest = self._total - min(len(self._last), self._keep)
        return start if start < len(self._first) else max(start, oldest)
