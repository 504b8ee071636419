"""Commands as they are sent to a guest: each says by which process it runs, and can so be ended with its children."""

from __future__ import annotations

import re
import secrets
import shlex
import threading

from tasks.communicator import as_root_if_possible

LONGEST = 4 * 1024
"""Bytes of a command that go into a request: Dropbear hangs up at 9,000, and a program takes 128 KiB at most."""
_LONGEST_GREETING = 64 * 1024

# Linux's /proc and a POSIX shell are all that a small guest has. A process belongs to a command when it descends from
# it or is in its session: what a shell starts in the background is, even when its parent is gone. All of them are
# stopped before the first one is killed, since one that goes on might start another meanwhile.
_END = r"""
leader=%d
found=" $leader "
kill -STOP "$leader" 2>/dev/null
grew=yes
while [ "$grew" ]; do
    grew=
    for file in /proc/[0-9]*/stat; do
        read -r line 2>/dev/null < "$file" || continue
        pid=${line%%%% *}
        set -- ${line##*) }
        case $found in *" $pid "*) continue ;; esac
        if [ "$4" = "$leader" ]; then :; else case $found in *" $2 "*) ;; *) continue ;; esac; fi
        kill -STOP "$pid" 2>/dev/null
        found="$found$pid "
        grew=yes
    done
done
for pid in $found; do kill -KILL "$pid" 2>/dev/null; done
:
"""


class Announced:
    """A command's output, from which the line that says the command's process is taken out.

    Shells may greet before it, also those that nobody sits at; that is part of the output.
    """

    def __init__(self) -> None:
        self.token = f"bakery-{secrets.token_hex(8)}"
        self.known = threading.Event()
        self.process: int | None = None
        """The process id in the guest, once it is known."""
        self._line = re.compile(rb"%s (\d+)\r?\n" % self.token.encode())
        self._held: bytes | None = b""

    def long_command(self) -> str:
        """What is sent ahead of a command that is too long for a request: it reads that from its standard input."""
        first = f'echo {self.token} $$; eval "$(cat)"'
        return f"exec /bin/sh -c {shlex.quote(first)}"

    def command(self, command: str, *, input_ends: bool) -> str:
        """The command as it is sent: it becomes the very process whose id is said, and so ends as it would alone.

        Args:
            command: For /bin/sh.
            input_ends: Whether it finds its input at an end. To say so by a message of its own would be too late for a
                command that is through before: paramiko's other thread has then given the channel back, and OpenSSH
                hangs up on whoever uses one that it does not know.
        """
        first = f'echo {self.token} $$; exec /bin/sh -c "$0"{" </dev/null" * input_ends}'
        return f"exec /bin/sh -c {shlex.quote(first)} {shlex.quote(command)}"

    def feed(self, data: bytes) -> bytes:
        """Take output in, and hand on what is the command's."""
        if self._held is None:
            return data
        self._held += data
        if found := self._line.search(self._held):
            self.process = int(found[1])
            self.known.set()
            data = self._held[: found.start()] + self._held[found.end() :]
        elif len(self._held) < _LONGEST_GREETING:
            return b""
        else:
            data = self._held
        self._held = None
        return data

    def rest(self) -> bytes:
        """What is left when the output has ended."""
        rest, self._held = self._held or b"", None
        return rest


def ending(process: int) -> str:
    """A command that ends the process and all that belongs to it, also what runs by sudo where we may use it."""
    return as_root_if_possible(_END % process)
