"""Asking a person, in Prefect's UI or at the terminal, while the build waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from datetime import UTC, datetime
from typing import Literal, TypeAlias, get_args

from prefect.flow_runs import apause_flow_run, asuspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from blocks.errors import BakeryError
from tasks.mark import LOCAL_SERVER
from tasks.run import Run

_LOOK = 2
_LONGEST = 24 * 3600
"""The build's own deadline is sooner."""


Answer: TypeAlias = Literal["try again", "keep", "clean up"]


class NobodyToAsk(BakeryError):
    """There is neither a UI nor a terminal."""


def someone_can_be_asked(server: str) -> bool:
    """Whether a build on this server has a UI, or this process a terminal."""
    return server != LOCAL_SERVER or _at_terminal()


class AfterFailure(RunInput):
    """The form that Resume shows for a build that failed with `on_error: ask`."""

    answer: Answer = Field(
        default="try again",
        title="What now?",
        description="try again: go on at the step that failed. keep: end the run, and keep what it made. clean up: end "
        "the run, and remove what it made.",
    )


async def ask_after_failure(run: Run, question: str) -> Answer:
    """Ask what becomes of a build that failed, and wait for the answer as long as the build may wait.

    In the UI, Resume shows the question. A run of a deployment is suspended: its process ends and gives up its place,
    what it made stays, and the answer is what its next process begins with (`answer_to_former_process`). The process of
    a run that nothing would start again waits itself.

    Raises:
        NobodyToAsk: there is neither a UI nor a terminal.
        prefect.exceptions.Pause: the run is suspended, and this process is to end.
    """
    if run.mark.server == LOCAL_SERVER:
        return AfterFailure.model_validate({"answer": await _choose_at_terminal(question)}).answer
    form = AfterFailure.with_initial_data(description=question)
    if run.is_rescheduled and run.mark.keep is not None:
        run.logger.warning("%s\nThe run is suspended: press Resume in the UI to answer.", question)
        left = max(int((run.mark.keep - datetime.now(UTC)).total_seconds()), 1)
        given = await asuspend_flow_run(wait_for_input=form, timeout=left, key=run.suspension(run.suspended + 1))
        return given.answer
    run.logger.warning("%s\nThe run is paused: press Resume in the UI to answer.", question)
    given = await apause_flow_run(wait_for_input=form, timeout=_LONGEST, poll_interval=_LOOK, key=run.next_question())
    return given.answer


async def answer_to_former_process(run: Run) -> Answer | None:
    """The answer that this process begins with, because the one before it suspended the run; None if it did not."""
    if not run.suspended:
        return None
    return (await asuspend_flow_run(wait_for_input=AfterFailure, key=run.suspension(run.suspended))).answer


async def wait_for_person(run: Run, note: str) -> None:
    """Wait until a person lets the build go on.

    Raises:
        NobodyToAsk: there is neither a UI nor a terminal.
    """
    if run.mark.server == LOCAL_SERVER:
        await _at_prompt(f"{note}\nPress Enter to go on: ")
        return
    run.logger.warning("%s\nThe run is paused: press Resume in the UI to go on.", note)
    await apause_flow_run(timeout=_LONGEST, poll_interval=_LOOK, key=run.next_question())


def _at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and "PREFECT__FLOW_RUN_ID" not in os.environ


async def _choose_at_terminal(question: str) -> str:
    choices = get_args(AfterFailure.model_fields["answer"].annotation)
    numbered = "\n".join(f"  {number}  {choice}" for number, choice in enumerate(choices, start=1))
    while True:
        said = await _at_prompt(f"{question}\n{numbered}\nYour answer: ")
        if said in choices:
            return said
        if said.isdigit() and 1 <= int(said) <= len(choices):
            return str(choices[int(said) - 1])


async def _at_prompt(text: str) -> str:
    """Read a line from the terminal; the wait can be cancelled, unlike one in a thread."""
    if not _at_terminal():
        raise NobodyToAsk(
            "nobody can be asked",
            why="the build runs on a Prefect server of its own, with no UI, and its standard input is no terminal",
            hint="Run it at a terminal, or on a Prefect server (PREFECT_API_URL).",
        )
    print(f"\n{text}", end="", flush=True, file=sys.stderr)
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()
    descriptor = sys.stdin.fileno()

    def readable() -> None:
        if not line.done():
            line.set_result(os.read(descriptor, 4096).decode(errors="replace"))

    loop.add_reader(descriptor, readable)
    try:
        said = await line
    finally:
        with contextlib.suppress(ValueError, OSError):
            loop.remove_reader(descriptor)
    if not said:
        raise NobodyToAsk("the terminal was closed", hint="Answer the question, or use on_error: keep.")
    return said.strip()
