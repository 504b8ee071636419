"""The reaper: a small process that tears down what a build made when the build can no longer do it itself.

A build starts it (`tasks.reaper_line`) and talks to it over its standard input, one JSON object a line:

    {"say": "watch", "run": ID, "attempt": N, "ground": {…}, …}  from now on, this is ours to watch
    {"say": "creating" | "created", "resource": TEXT, …}         a create was sent, or its end is known
    {"say": "cleaning up", …}                                    nothing is to be kept any more
    {"say": "done", "cut": …, …}                                 the build has cleaned up; whether it is being ended
    {"say": "take over", "cut": …, …}                            it could not

The end of the input means "take over" for every run that is not done and not to be kept. It is in a session of its own
and ignores SIGINT, SIGTERM and SIGHUP, so nothing that happens to the build's process or its terminal cuts a teardown
short. It ends when its input is closed and its teardowns are through.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from blocks.settings import settings
from tasks import begun
from tasks.grounds import SECRETS, opened
from tasks.mark import LOCAL_SERVER, Lineage
from tasks.masking import keep_secret, mask_error
from tasks.unseen import tear_down_run

log = logging.getLogger("image_bakery.reaper")

_REPORT = 120
"""Seconds that the Prefect server may take to be told. Nobody waits for it, and without it the run seems to go on."""


@dataclass
class Watched:
    """A build that is watched over."""

    lineage: Lineage
    ground: dict[str, Any]
    keeps: bool = False
    """Whether what a dead build left is kept for someone who goes on with it."""
    pending: set[str] = field(default_factory=set)


async def reap(watched: Watched) -> None:
    """Tear down what a build left, and report it."""
    report = _Report(watched)
    why = f"a create was on its way ({', '.join(sorted(watched.pending))})" if watched.pending else ""
    report.info("The build's process could not clean up; the reaper takes over. %s", why)
    try:
        async with opened(watched.ground, watched.lineage) as ground:
            settle = settings().settle_time if watched.pending else 0
            removal = await tear_down_run(ground, watched.lineage, watched.lineage.owns, logger=report, settle=settle)
        begun.end(watched.lineage.run, watched.lineage.attempt)
        report.info("The reaper removed %d resources; nothing of this run is left.", len(removal.removed))
    except Exception as error:
        mask_error(error)
        report.error("The reaper could not clean up: %s", error)
    await report.send()


async def _after_death(left: Watched) -> None:
    """What is done for a build whose process is gone."""
    if left.keeps:
        log.info("%s: the build's process is gone; what it made is kept", left.lineage.run)
    else:
        await reap(left)
    await _call_crashed(left)


async def _take_over(left: Watched, gone: asyncio.Event) -> None:
    """What is done for a build whose own teardown was cut, and whose process is about to be gone."""
    await reap(left)
    await gone.wait()
    await _call_crashed(left)


async def _call_crashed(left: Watched) -> None:
    """Have the server know that a build's process is gone, where it does not.

    A worker says so itself, and sooner, unless it ends as well; of a flow that was called directly nobody would.
    """
    if not _server_is_there():
        return
    try:
        async with asyncio.timeout(_REPORT):
            from prefect.client.orchestration import get_client

            from tasks.runs import call_crashed

            async with get_client() as client:
                await call_crashed(client, left.lineage.run, "its reaper saw it end", attempt=left.lineage.attempt)
    except Exception as error:
        log.warning("%s: the flow run's state could not be set: %s", left.lineage.run, error)


def _server_is_there() -> bool:
    """Whether there is a Prefect server that outlasts its builds."""
    if settings().server == LOCAL_SERVER:
        return False
    from prefect.settings import get_current_settings

    return get_current_settings().api.url is not None


async def serve() -> None:
    """Read what builds say until the end of the input, then take over what is not done."""
    watched: dict[tuple[str, int], Watched] = {}
    cut: list[Watched] = []
    gone = asyncio.Event()
    reader = asyncio.StreamReader(limit=2**20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as teardowns:
        while line := await reader.readline():
            message = json.loads(line)
            key = (message["run"], message["attempt"])
            match message["say"]:
                case "watch":
                    for name in SECRETS & message["ground"].keys():
                        keep_secret(SecretStr(message["ground"][name]))
                    watched[key] = Watched(
                        Lineage(
                            UUID(message["run"]),
                            message["attempt"],
                            UUID(message["resumes"]) if message["resumes"] else None,
                        ),
                        message["ground"],
                        message["keeps"],
                    )
                case "creating" if key in watched:
                    watched[key].pending.add(message["resource"])
                case "created" if key in watched:
                    watched[key].pending.discard(message["resource"])
                case "cleaning up" if key in watched:
                    watched[key].keeps = False
                case "done" if key in watched:
                    done = watched.pop(key)
                    if message["cut"]:
                        cut.append(done)
                case "take over" if key in watched:
                    left = watched.pop(key)
                    teardowns.create_task(_take_over(left, gone) if message["cut"] else reap(left))
        gone.set()
        for left in watched.values():
            teardowns.create_task(_after_death(left))
        for left in cut:
            teardowns.create_task(_call_crashed(left))


class _Report(logging.LoggerAdapter[logging.Logger]):
    """What one teardown has to say: to this host's log at once, to the flow run's log at the end."""

    def __init__(self, watched: Watched) -> None:
        super().__init__(log, {})
        self._run = watched.lineage.run
        self._lines: list[tuple[int, datetime, str]] = []

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        text = str(msg) % args if args else str(msg)
        self._lines.append((level, datetime.now(UTC), text.strip()))
        super().log(level, "%s: %s", self._run, text.strip(), **kwargs)

    async def send(self) -> None:
        """Send it to the flow run's log, if the server outlasts its builds and can be reached."""
        if not _server_is_there():
            return
        try:
            async with asyncio.timeout(_REPORT):
                await self._send()
        except Exception as error:
            log.warning("%s: the flow run's log could not be reached: %s", self._run, error)

    async def _send(self) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import LogCreate

        async with get_client() as client:
            await client.create_logs(
                [
                    LogCreate(
                        name="image_bakery.reaper", level=level, message=text, timestamp=moment, flow_run_id=self._run
                    )
                    for level, moment, text in self._lines
                ]
            )


def main() -> None:
    """Run as the reaper of the process at the other end of standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    directory = settings().state_dir.expanduser()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = RotatingFileHandler(directory / "reaper.log", maxBytes=2**20, backupCount=1, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("image_bakery").setLevel(logging.INFO)
    try:
        asyncio.run(serve())
    except Exception:
        log.exception("The reaper failed")


if __name__ == "__main__":
    main()
