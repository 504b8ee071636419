"""Starting and stopping a region in the background, by its state directory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Any

from emulators.region.home import Home, RegionError

_POLL = 0.05


def up(home: Home, module: str, arguments: list[str], *, timeout: float = 300) -> tuple[dict[str, Any], bool]:
    """Start `python -m module serve arguments…` in a session of its own and wait until it is ready.

    Args:
        timeout: seconds to wait; a first start copies images.

    Returns:
        What the server said when it was ready, and whether it was started by this call.

    Raises:
        RegionError: it ended instead, or was not ready in time.
    """
    home.make()
    if home.holder() is not None:
        return _await_ready(home, None, timeout), False
    with home.log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return _await_ready(home, process, timeout), True


def _await_ready(home: Home, process: subprocess.Popen[bytes] | None, timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if ready := home.ready():
            return ready
        ended = home.holder() is None if process is None else process.poll() is not None
        if ended:
            raise RegionError(f"the region ended before it was ready. The end of {home.log_file}:\n{_tail(home)}")
        time.sleep(_POLL)
    if process is not None:
        process.terminate()
    raise RegionError(f"the region was not ready after {timeout:.0f} s: see {home.log_file}")


def _tail(home: Home) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(home.log_file.read_text(errors="replace").splitlines()[-12:])
    return ""


def down(home: Home, *, timeout: float = 60) -> int | None:
    """Stop the region that serves from a state directory, and wait until it and its machines are gone.

    Returns:
        Its process id, or None when none was serving.

    Raises:
        RegionError: it did not end in time.
    """
    pid = home.holder()
    if pid is None:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while home.holder() == pid:
        if time.monotonic() > deadline:
            raise RegionError(f"process {pid} did not end within {timeout:.0f} s: see {home.log_file}")
        time.sleep(_POLL)
    return pid
