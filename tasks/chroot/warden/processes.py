"""Who descends from whom, and ending them: by the numbers of the PID namespace that `/proc` shows."""

# System calls as they are: pathlib would only stand between.
# ruff: noqa: PTH208

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_STUCK = 5.0
_GONE = frozenset("ZX")


def descendants(root: int) -> list[int]:
    """Every living process below `root`, parents first. Zombies are gone, though their children may not be."""
    children: dict[int, list[int]] = {}
    living = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                # The command's name, in parentheses, may itself hold parentheses and spaces (proc(5)).
                state, parent = Path("/proc", name, "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                children.setdefault(int(parent), []).append(int(name))
                if state not in _GONE:
                    living.add(int(name))
    found: list[int] = []
    level = [root]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        found += level
    return [process for process in found if process in living]


def end_tree(root: int) -> None:
    """Kill a process and all that descends from it, within 5 s.

    The root is stopped first: as the tree's subreaper it keeps hold of orphans, and it must not end before they do.
    """
    _send(root, signal.SIGSTOP)
    end = time.monotonic() + _STUCK
    while (rest := descendants(root)) and time.monotonic() < end:
        for process in rest:
            _send(process, signal.SIGKILL)
        time.sleep(0.001)
    _send(root, signal.SIGKILL)


def command_line(process: int) -> str:
    """How a process was called; a kernel thread's or a zombie's short name in brackets."""
    with suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        if words != [b""]:
            return " ".join(word.decode(errors="replace") for word in words)
        return f"[{Path(f'/proc/{process}/comm').read_text(errors='replace').strip()}]"
    return "[gone]"


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)
