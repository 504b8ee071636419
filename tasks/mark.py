"""The mark: what every temporary resource says about the build that owns it, before it exists.

    image-bakery run=<flow run id> try=<attempt> server=<id> host=<boot id>/<pid namespace>:<pid>:<process start>
    until=<UTC> [keep=<UTC>] [final=<name>]

It is a contract between all versions of Image Bakery that meet in one project: this module alone writes and reads it.
A text counts as a mark only if it is one from its first to its last character, so that a description which quotes a
mark belongs to whoever wrote it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Self
from uuid import UUID

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

_MARK = re.compile(
    rf"image-bakery run=(?P<run>{_UUID}) try=(?P<attempt>[1-9]\d*) server=(?P<server>[A-Za-z0-9-]+) "
    rf"host=(?P<host>{_UUID}/\d+:\d+:\d+) until=(?P<until>{_STAMP})"
    rf"(?: keep=(?P<keep>{_STAMP}))?(?: final=(?P<final>[A-Za-z0-9_()/.@'\[\] -]+))?",
    re.ASCII,
)

LOCAL_SERVER = "local"
"""The name of a Prefect server that does not outlast its build. No such server is the same as another."""

UNKNOWN_SERVER = "unknown"
"""In the mark of what tells no more than its run: whichever server knows that run."""


@dataclass(frozen=True)
class HostProcess:
    """A process, told apart from all others that ever were: host (since its boot), pid namespace, pid, start."""

    boot_id: str
    pid_namespace: int
    pid: int
    start: int
    """Clock ticks from the host's boot to the process's start (proc_pid_stat(5), field 22)."""

    @classmethod
    def current(cls) -> Self:
        """This process."""
        boot_id, namespace = _this_host()
        pid = os.getpid()
        return cls(boot_id, namespace, pid, _process_start(pid) or 0)

    @property
    def on_this_host(self) -> bool:
        """Whether it was started on this host, since its last boot, in our pid namespace."""
        return (self.boot_id, self.pid_namespace) == _this_host()

    @property
    def is_alive(self) -> bool | None:
        """Whether it still runs; None when that cannot be seen from here."""
        return _process_start(self.pid) == self.start if self.on_this_host else None

    def __str__(self) -> str:
        return f"{self.boot_id}/{self.pid_namespace}:{self.pid}:{self.start}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote."""
        boot_id, rest = text.split("/")
        namespace, pid, start = rest.split(":")
        return cls(boot_id, int(namespace), int(pid), int(start))


@cache
def _this_host() -> tuple[str, int]:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return boot_id, Path("/proc/self/ns/pid").stat().st_ino


def _process_start(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command's name stands in parentheses and may hold anything, blanks and parentheses too.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True)
class Mark:
    """Who owns a resource, and until when nobody else may remove it."""

    run: UUID
    """The flow run."""
    attempt: int
    """The flow run's `run_count`, from 1."""
    server: str
    """The Prefect server's own random name, or `local`."""
    host: HostProcess
    """The process that builds."""
    until: datetime
    """After this time anyone with the credentials may remove the resource."""
    keep: datetime | None = None
    """A build that failed is left alone until then, by everyone."""
    final: str | None = None
    """For a temporary image: the name under which it is to end up."""

    def __post_init__(self) -> None:
        # What carries a mark that cannot be read again is found by no teardown.
        if _MARK.fullmatch(str(self)) is None:
            raise ValueError(f"no mark can say this: {self}")

    def __str__(self) -> str:
        text = (
            f"image-bakery run={self.run} try={self.attempt} server={self.server} host={self.host} "
            f"until={self.until.astimezone(UTC).strftime(_TIME)}"
        )
        if self.keep is not None:
            text += f" keep={self.keep.astimezone(UTC).strftime(_TIME)}"
        return text if self.final is None else f"{text} final={self.final}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The mark that a text is, or None when it is none."""
        match = _MARK.fullmatch(text)
        if match is None:
            return None
        try:
            return cls(
                run=UUID(match["run"]),
                attempt=int(match["attempt"]),
                server=match["server"],
                host=HostProcess.parse(match["host"]),
                until=_time(match["until"]),
                keep=_time(match["keep"]) if match["keep"] else None,
                final=match["final"],
            )
        except ValueError:  # digits in the right places that are no date
            return None

    @property
    def tail(self) -> str:
        """What tells runs apart in names: ids are time-ordered, so only their last digits differ at random."""
        return run_tail(self.run)


@dataclass(frozen=True)
class Lineage:
    """Whose resources a build goes on with and removes: its own, its earlier attempts', those of one it resumes."""

    run: UUID
    """The flow run."""
    attempt: int
    """Which attempt of it, from 1."""
    resumes: UUID | None = None
    """Another run, whose kept build this one goes on with."""

    @property
    def origin(self) -> UUID:
        """The run that began what is built: this one, or the one that it resumes."""
        return self.resumes or self.run

    def owns(self, mark: Mark | None) -> bool:
        """Whether a mark is this attempt's, an earlier one's of the same run, or of the run that this one resumes."""
        if mark is None:
            return False
        return (mark.run == self.run and mark.attempt <= self.attempt) or mark.run == self.resumes

    def adopts(self, mark: Mark | None) -> bool:
        """Whether a build goes on with what carries a mark: its own of this attempt, or what an earlier one kept."""
        if mark is None or not self.owns(mark):
            return False
        return mark.keep is not None or (mark.run, mark.attempt) == (self.run, self.attempt)


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def run_tail(run: UUID) -> str:
    """The last 8 hex digits of a flow run's id."""
    return run.hex[-8:]


def provenance(run: UUID) -> str:
    """How the description of a finished image ends: where it came from. Such an image is nobody's to remove."""
    return f"(image-bakery run={run})"


def without_provenance(description: str) -> str:
    """A description without the provenance that an image of ours ends in: an image made of it has its own."""
    return re.sub(rf"\s*\(image-bakery run={_UUID}\)$", "", description)
