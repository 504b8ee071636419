"""`on_error: ask`: a build that failed waits for a person, who may have it go on where it failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from blocks.errors import BakeryError
from tasks.masking import mask_error
from tasks.person import Answer, answer_to_former_process, ask_after_failure
from tasks.run import Run

T = TypeVar("T")


class EndedByAnswer(BakeryError):
    """A person let a build end that had failed and was suspended."""


async def until_answered(run: Run, bake: Callable[[], Awaitable[T]]) -> T:
    """Bake; when that fails and the build asks, do what the answer says, which may be to go on with what is there.

    Args:
        run: The run. Its `keeps` is set when the answer is to keep what was made.
        bake: Builds with whatever it finds of an earlier try.

    Raises:
        EndedByAnswer: the build failed in a former process, and the answer is not to try again.
        prefect.exceptions.Pause: the run is suspended until there is an answer.
    """
    answer = await answer_to_former_process(run)
    if answer is not None and not _tries_again(run, answer):
        raise EndedByAnswer(
            f"the build failed, and the answer is: {answer}",
            resource=f"flow run {run.id}",
            hint="Why it failed stands above in the log, and on the earlier build page.",
        )
    while True:
        try:
            return await bake()
        except Exception as error:
            if not run.asks:
                raise
            mask_error(error)
            answer = await ask_after_failure(run, f"The build failed: {error}")
            if not _tries_again(run, answer):
                raise


def _tries_again(run: Run, answer: Answer) -> bool:
    run.logger.info("The answer is: %s", answer)
    run.keeps = answer == "keep"
    run.goes_on = answer == "try again"
    return run.goes_on
