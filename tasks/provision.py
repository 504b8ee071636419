"""Run a build's provisioners, each as a step of its own, its output in the run's log line by line."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from blocks.errors import HostKeyChanged, SecretUnavailable, WaitExpired
from blocks.settings import settings
from tasks.communicator import Communicator, persist
from tasks.masking import mask_error
from tasks.person import wait_for_person
from tasks.provisioners import Provisioner
from tasks.provisioners.common import Bench, last_lines
from tasks.provisioners.facts import BuildFacts
from tasks.record import Entry, Record, entry
from tasks.run import Logger, Run
from tasks.step import in_time, step

_LONGEST_PAUSE = 60.0
_TAIL = 20
_RECONNECT = 300.0
_ERROR_CLEANUP = 300.0
_CLEANUP_RECONNECT = 30.0
_NEVER_AGAIN = (HostKeyChanged, SecretUnavailable)
"""What another try does not change, and what no build may go on after."""


@dataclass(frozen=True)
class _Planned:
    """One provisioner of this build."""

    place: int
    label: str
    provisioner: Provisioner


async def provision(
    run: Run,
    communicator: Communicator,
    provisioners: Sequence[Provisioner],
    *,
    base: Path,
    facts: BuildFacts,
    error_cleanup: Provisioner | None = None,
    record: Record | None = None,
) -> None:
    """Run the provisioners one after the other.

    Args:
        run: The run.
        communicator: How the system that is being made is reached.
        provisioners: What is done to it.
        base: The definition's directory on this host.
        facts: What scripts and templates may know about the build.
        error_cleanup: What is done to it when one of them has failed or the build is ended while they run. Whatever
            comes of it, the first error is the build's.
        record: What it has already had: that is not done again, and what is done is added. Without one nothing is
            written there, and this costs nothing.

    Raises:
        RecordMismatch: it has had something else than the definition says.
        BakeryError: a provisioner failed.
    """
    todo = list(_planned(run, provisioners, facts))
    if record is not None:
        todo = await _not_had(run, todo, base, record, len(provisioners))
    wait = partial(wait_for_person, run)
    bench = Bench(communicator, run.logger, base, facts.variables(), facts, wait)
    try:
        await _run_all(run, todo, bench, record)
    except BaseException:
        mine = error_cleanup.for_build(facts.names) if error_cleanup is not None else None
        if mine is not None:
            await _clean_up(run, mine, bench)
        raise


def labels(provisioners: Sequence[Provisioner]) -> Iterator[str]:
    """How each provisioner is called in log and build page: its name, else its type and place."""
    for place, provisioner in enumerate(provisioners, start=1):
        yield provisioner.name or f"{provisioner.type} {place}"


def _planned(run: Run, provisioners: Sequence[Provisioner], facts: BuildFacts) -> Iterator[_Planned]:
    for place, (label, provisioner) in enumerate(zip(labels(provisioners), provisioners, strict=True), start=1):
        mine = provisioner.for_build(facts.names)
        if mine is None:
            run.logger.info("[%s] Skipped: it is not for %s", label, facts.names[-1])
        else:
            yield _Planned(place, label, mine)


async def _not_had(run: Run, planned: Sequence[_Planned], base: Path, record: Record, last: int) -> list[_Planned]:
    record.check_end(last)
    todo = []
    for one in planned:
        if record.has(await entry(one.place, one.label, one.provisioner, base)):
            run.logger.info("[%s] Skipped: this system has had it", one.label)
        else:
            todo.append(one)
    if record.begun is not None:
        run.logger.info("[%s] An earlier attempt did not finish this: it runs again", record.begun.label)
    return todo


async def _run_all(run: Run, todo: Sequence[_Planned], bench: Bench, record: Record | None) -> None:
    before: Entry | None = None
    for one in todo:
        if record is not None:
            now = await entry(one.place, one.label, one.provisioner, bench.base)
            await (record.begin(now) if before is None else record.finish(before, now))
            before = now
        await _run_one(run, one, bench)
    if record is not None and before is not None:
        await record.finish(before)


async def _run_one(run: Run, one: _Planned, bench: Bench) -> None:
    logger = _Tagged(run.logger, one.label)
    try:
        # Not tried again as a whole: what a script did the first time is not undone.
        await step(f"provision: {one.label}", retries=0)(_try)(run, one, replace(bench, logger=logger))
    except Exception as error:
        if not one.provisioner.continue_on_error or isinstance(error, _NEVER_AGAIN):
            raise
        mask_error(error)
        logger.error("It failed, and the build goes on (continue_on_error): %s", error)


async def _try(run: Run, one: _Planned, bench: Bench) -> None:
    provisioner = one.provisioner
    if provisioner.pause_before:
        bench.logger.info("Waiting %g s", provisioner.pause_before)
        await asyncio.sleep(provisioner.pause_before)
    pause = settings().provisioner_retry_pause
    for number in range(1, provisioner.max_retries + 2):
        try:
            return await _try_once(run, one, bench, provisioner.deadline)
        except Exception as error:
            if number > provisioner.max_retries or isinstance(error, _NEVER_AGAIN):
                raise
            mask_error(error)
            tries = provisioner.max_retries + 1
            bench.logger.warning("Try %d of %d failed; the next one begins in %g s: %s", number, tries, pause, error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return None


async def _try_once(
    run: Run, one: _Planned, bench: Bench, deadline: float | None, *, patience: float = _RECONNECT
) -> None:
    """One try, over a connection that stands.

    Raises:
        WaitExpired: the deadline came. What ran is killed by then, in the system that is being made, too.
    """
    logger = _Tagged(run.logger, one.label)
    try:
        async with asyncio.timeout(deadline) as limit:
            await persist(bench.communicator, _nothing, patience)
            await one.provisioner.rendered(bench.facts).provision(replace(bench, logger=logger))
    except TimeoutError:
        if not limit.expired():
            raise
        raise WaitExpired(
            f"it was not through after {deadline:g} s, and was ended",
            resource=one.provisioner.called,
            why=last_lines(logger.tail),
            hint="Give it a longer timeout, or find out what it waits for.",
        ) from None


async def _nothing() -> None:
    return


async def _clean_up(run: Run, provisioner: Provisioner, bench: Bench) -> None:
    """Run the error clean-up. Its own failure is told and does not take the first error's place."""
    one = _Planned(0, f"error cleanup: {provisioner.name or provisioner.type}", provisioner)
    deadline = provisioner.timeout or _ERROR_CLEANUP
    try:
        # No task of Prefect's: the run may be on its way out.
        await in_time(run, one.label, _try_once(run, one, bench, deadline, patience=_CLEANUP_RECONNECT))
    except Exception as error:
        _Tagged(run.logger, one.label).error("It failed, too: %s", error)


class _Tagged(logging.LoggerAdapter[Any]):
    """A run's log whose lines say which provisioner they come from."""

    def __init__(self, logger: Logger, label: str) -> None:
        super().__init__(logger, {})
        self._label = label
        self.tail: deque[str] = deque(maxlen=_TAIL)
        """The last lines, for an error that nobody else has lines for."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        # Formatted here, so that neither a label nor a line of output is taken for a format.
        text = str(msg) % args if args else str(msg)
        self.tail.append(text)
        self.logger.log(level, f"[{self._label}] {text}", **kwargs)
