"""Who may remove what: whether the build that a mark belongs to is dead, as far as it can be told from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from uuid import UUID

from tasks.mark import LOCAL_SERVER, UNKNOWN_SERVER, Mark


class Life(Enum):
    """What our Prefect server knows of a flow run."""

    FINAL = "ended"
    CANCELLED = "was cancelled"
    SILENT = "sent no heartbeat for a whole window"
    WAITING = "is paused or suspended"
    ALIVE = "is not known to be dead"


@dataclass(frozen=True)
class Verdict:
    """What becomes of a marked resource, and why."""

    remove: bool
    why: str
    dead: bool = False
    """Whether the build's process is known to be gone, whatever Prefect says of its run."""
    expired: bool = False
    """Whether the time that the mark names is past, after which anyone may remove it."""


def judge(mark: Mark, *, now: datetime, server: str, runs: Mapping[UUID, Life]) -> Verdict:
    """Decide what becomes of what carries a mark.

    - What is to be kept is left alone until its `keep` time, by everyone, unless its run was cancelled.
    - On the host of its process: it goes when that process is gone.
    - Elsewhere, on the same server: it goes when its run has ended, or has been silent for a whole window.
    - All else, another server's, an unknown run's, goes only after `until`: a live build is never touched.

    Args:
        mark: The resource's mark.
        now: The time.
        server: Our Prefect server's name; `local` is nobody's.
        runs: What our server knows of runs.
    """
    ours = server != LOCAL_SERVER and mark.server in (server, UNKNOWN_SERVER)
    life = runs.get(mark.run) if ours else None
    alive = mark.host.is_alive
    # A suspended run has no process that would see to it.
    if mark.keep is not None and (life is not Life.CANCELLED or alive):
        left_until = mark.keep
        if now < left_until:
            return Verdict(False, f"kept until {_shown(left_until)}")
        return Verdict(True, f"was kept until {_shown(left_until)}", expired=True)
    expired = now >= mark.until
    if alive:
        return Verdict(False, f"process {mark.host.pid} of this host builds it")
    if alive is False:
        return Verdict(True, f"process {mark.host.pid} of this host is gone", dead=True, expired=expired)
    if life is Life.FINAL or life is Life.CANCELLED:
        return Verdict(True, f"its run {life.value}", expired=expired)
    if life is Life.SILENT:
        return Verdict(True, f"its run {life.value}", dead=True, expired=expired)
    if expired:
        return Verdict(True, f"nobody may need it after {_shown(mark.until)}", expired=True)
    if life is not None:
        return Verdict(False, f"its run {life.value}")
    whose = "a run that this server does not know" if ours else "another host and Prefect server"
    return Verdict(False, f"of {whose}: left alone until {_shown(mark.until)}")


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
