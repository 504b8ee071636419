"""`python -m flows.worker`: a Prefect worker that does not end before what it started has cleaned up.

Prefect's worker kills the processes of its runs when it is stopped. The reapers of these builds clean up then; but a
container ends with its first process, and so do the processes of a systemd unit. So this is the first process: it
passes signals on to the worker, and waits for all processes that are left, as their new parent
(`PR_SET_CHILD_SUBREAPER`). Arguments are those of `prefect worker start`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> int:
    """Run a worker until it and all that it started have ended, and return its exit code."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    worker = os.posix_spawn(sys.executable, [sys.executable, "-m", "prefect", "worker", "start", *argv], os.environ)
    ended: int | None = None

    def pass_on(number: int, _: object) -> None:
        if ended is None:
            os.kill(worker, number)
        else:
            print("The worker has ended; waiting for its builds to be cleaned up.", file=sys.stderr, flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    while True:
        try:
            process, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return abs(ended or 0)
        if process == worker:
            ended = os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
