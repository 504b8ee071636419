"""Processes of machines, none of which may outlive the emulator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def dying_with_us(argv: Sequence[str | Path]) -> list[str | Path]:
    """The same program, killed by the kernel when the thread that starts it ends, however that comes.

    So a machine has to be started from a thread that lives as long as the emulator: asyncio starts processes in its
    loop's thread. See PR_SET_PDEATHSIG in prctl(2).
    """
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]
