"""A command's output on its way to the log: whole lines as they come, whatever the bytes are."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable

from tasks.masking import longest_secret, masked

_LONGEST_LINE = 4_000
_HELD_BACK = 64 * 1024
_TAIL = 20


class Lines:
    """Cuts a stream of bytes into lines and hands each to the log, with secrets masked.

    Bytes that are no UTF-8 become U+FFFD, control characters other than tab become dots. Of a line with more than 4,000
    characters the log gets the first 4,000 and how many followed. Nothing grows with the length of a line or a stream.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL)
        """The last lines, for the error."""
        self._log = log
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line = ""
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._take(self._decoder.decode(data))

    def end(self) -> None:
        """Hand over what stands after the last newline."""
        self._take(self._decoder.decode(b"", final=True))
        if self._line or self._dropped:
            self._flush()

    def _take(self, text: str) -> None:
        # A progress bar redraws its line after a carriage return: each drawing is a line here.
        *whole, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for part in whole:
            self._hold(part)
            self._flush()
        self._hold(rest)

    def _hold(self, part: str) -> None:
        # More is held back than is shown, so that a secret which lies across the cut is still seen whole.
        room = _HELD_BACK - len(self._line)
        self._line += part[:room]
        self._dropped += max(len(part) - room, 0)

    def _flush(self) -> None:
        line = masked(self._line)
        cut = max(len(line) - _LONGEST_LINE, 0) + self._dropped
        if self._dropped:
            # What was held may end in the first part of a secret, and masks bring that nearer to the start.
            line = line[: max(len(line) - longest_secret(), 0)]
        line = "".join(char if char.isprintable() or char == "\t" else "·" for char in line[:_LONGEST_LINE])
        self._line, self._dropped = "", 0
        if cut:
            line += f" … ({cut:,} more characters in this line)"
        if line.strip():
            self.tail.append(line)
            self._log(line)
