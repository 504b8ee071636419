"""The end of a lane that hands out points: its process, in namespaces like a container's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.chaos.points import Outcome, Point, Trace
from tests.end_to_end.world import ROOT

_NAMESPACES = [
    "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "slave", "--",
]  # fmt: skip


class LaneFailed(Exception):
    """The lane's own process ended."""


class LaneProcess:
    """A lane that runs one point after the other."""

    def __init__(self, kind: str, guest: Path) -> None:
        self.kind = kind
        self._guest = guest
        self._child: subprocess.Popen[str] | None = None
        self._log = Path(tempfile.gettempdir()) / f"chaos-{kind}-{os.getpid()}.log"

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()
        if kind is None:
            self._log.unlink(missing_ok=True)

    def trace(self) -> Trace:
        """What a clean build asks its region for."""
        return Trace.model_validate_json(self._ask("trace"))

    def run(self, point: Point) -> Outcome:
        """Run one point."""
        return Outcome.model_validate_json(self._ask(point.model_dump_json()))

    def renew(self) -> None:
        """Begin anew, with another region: something is left in this one."""
        self._stop()
        self._start()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [*_NAMESPACES, sys.executable, "-m", "tests.chaos.lane_process", self.kind, str(self._guest)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
                cwd=ROOT,
                # Ctrl-C is for those who hand out points: the lane ends when they do, and in order.
                start_new_session=True,
            )

    def _stop(self) -> None:
        child = self._child
        if child is None:
            return
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        child.stdout.close()

    def _ask(self, line: str) -> str:
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise LaneFailed(f"it has ended: see {self._log}") from None
        answer = self._child.stdout.readline()
        if not answer:
            raise LaneFailed(f"it has ended: see {self._log}")
        return answer
