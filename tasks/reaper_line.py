"""The build's end of the line to its reaper.

The reaper (`tasks.reaper`) is exec'd in its own session before the first create of the first build of a process. It
learns over a pipe whose resources to watch and with which credentials, and takes over when the pipe closes: there is no
way for this process to end without that.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.mark import Lineage

_ENVIRONMENT = {
    "HOME", "LANG", "PATH", "TMPDIR", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "PREFECT_HOME", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "XDG_STATE_HOME",
}  # fmt: skip
_ENVIRONMENT_PREFIXES = ("PREFECT_API_", "PREFECT_CLIENT_", "IMAGE_BAKERY_")

_ROOT = Path(__file__).resolve().parents[1]
_START = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r}); "
    "from tasks.own_code import keep_own_code; keep_own_code(); from tasks.reaper import main; main()"
)


@dataclass(frozen=True)
class Watch:
    """What the reaper has to know of a build."""

    lineage: Lineage
    ground: Mapping[str, Any]
    """How another process gets at the build's resources (see `tasks.grounds`), credentials included."""
    keeps: bool = False
    """Whether a build whose process dies is left as it is, for someone to go on with it."""


class ReaperLine:
    """What one build tells the reaper: what it is making, and how it ended."""

    def __init__(self, reaper: _Reaper, watched: Watch) -> None:
        self._reaper = reaper
        self._run = str(watched.lineage.run)
        self._attempt = watched.lineage.attempt
        resumes = watched.lineage.resumes
        self._tell("watch", ground=dict(watched.ground), resumes=str(resumes) if resumes else None, keeps=watched.keeps)

    def creating(self, resource: str) -> None:
        """A create is on its way: until `created`, it may take effect at any moment."""
        self._tell_if_there("creating", resource=resource)

    def created(self, resource: str) -> None:
        """It is known how that create ended."""
        self._tell_if_there("created", resource=resource)

    def cleaning_up(self) -> None:
        """The build tears down: from now on nothing of it is to be kept."""
        self._tell_if_there("cleaning up")

    def done(self, *, cut: bool = False) -> None:
        """The build has cleaned up after itself, or keeps what it has left on purpose.

        Args:
            cut: Its process is being ended: it may not live to tell the server so.
        """
        self._tell_if_there("done", cut=cut)

    def take_over(self, *, cut: bool) -> None:
        """The build's own teardown was cut or did not get through: go on with it.

        Args:
            cut: As in `done`.
        """
        self._tell_if_there("take over", cut=cut)

    def _tell_if_there(self, word: str, **more: Any) -> None:
        # A build whose reaper someone ended goes on: it is no worse off than with none.
        with suppress(BrokenPipeError):
            self._tell(word, **more)

    def _tell(self, word: str, **more: Any) -> None:
        self._reaper.tell({"say": word, "run": self._run, "attempt": self._attempt, **more})


class _Reaper:
    """The reaper of this process, and the write end of its pipe, which no other process holds."""

    def __init__(self) -> None:
        read, self._write = os.pipe()
        self._lock = threading.Lock()
        null = os.devnull
        try:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-c", _START],
                {
                    name: value
                    for name, value in os.environ.items()
                    if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
                },
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, read, 0),
                    (os.POSIX_SPAWN_OPEN, 1, null, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, null, os.O_WRONLY, 0),
                ],
                setsid=True,
            )
        except BaseException:
            os.close(self._write)
            raise
        finally:
            os.close(read)

    def tell(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._write, line) :]


_reaper: _Reaper | None = None


def reaper_here() -> int | None:
    """The process id of this process's reaper, if it has one."""
    return _reaper.pid if _reaper is not None else None


_starting = threading.Lock()


def watch(build: Watch) -> ReaperLine:
    """Have the reaper watch over a build, and start it if this process has none."""
    global _reaper
    with _starting:
        if _reaper is None:
            _reaper = _Reaper()
        try:
            return ReaperLine(_reaper, build)
        except BrokenPipeError:  # someone ended it: builds that it watched are no worse off than with none
            _reaper = _Reaper()
            return ReaperLine(_reaper, build)
