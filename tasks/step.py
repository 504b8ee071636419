"""A step: a Prefect task with what all build steps share: tries, times, errors without secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.utilities.annotations import opaque

from blocks.errors import BakeryError, CloudError
from tasks.masking import mask_error
from tasks.run import Run

P = ParamSpec("P")
R = TypeVar("R")
RunT = TypeVar("RunT", bound=Run)


def step(
    name: str, *, retries: int = 4
) -> Callable[[Callable[Concatenate[RunT, P], Awaitable[R]]], Task[Concatenate[RunT, P], Coroutine[Any, Any, R]]]:
    """Make a Prefect task of a function whose first argument is the run.

    It is tried again only for faults that pass; its second try finds what the first one did. Nothing is cached: what is
    there is found by its mark.

    Args:
        name: The task's name, as in the log, the UI and the build page.
        retries: How often it is tried again.
    """

    def decorate(
        function: Callable[Concatenate[RunT, P], Awaitable[R]],
    ) -> Task[Concatenate[RunT, P], Coroutine[Any, Any, R]]:
        @wraps(function)
        async def timed(run: RunT, *args: P.args, **kwargs: P.kwargs) -> R:
            return await in_time(run, name, function(run, *args, **kwargs))

        return _Step(
            timed,
            name=name,
            retries=retries,
            retry_delay_seconds=[0.5 * 2**n for n in range(retries)],
            retry_jitter_factor=0.5,
            retry_condition_fn=_passes,
            cache_policy=NO_CACHE,
            persist_result=False,
        )

    return decorate


class _Step(Task[P, R]):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Prefect looks for results of other tasks in all that it is given, twice, for as long as an empty task takes.
        # Ours are arguments themselves, and never inside a definition or a plan.
        call: Callable[..., Any] = super().__call__
        return call(*map(opaque, args), **{name: opaque(given) for name, given in kwargs.items()})


async def in_time(run: Run, name: str, work: Awaitable[R]) -> R:
    """Do the work, write down how long it took and how it went, and keep secrets out of its error."""
    started = asyncio.get_running_loop().time()
    run.begin(name)
    try:
        result = await work
    except Exception as error:
        mask_error(error)
        if isinstance(error, BakeryError):
            error.step = error.step or name
        run.record(name, started, "failed")
        raise
    except BaseException:
        run.record(name, started, "cancelled")
        raise
    finally:
        run.under_way.remove(name)
    run.record(name, started, "done")
    return result


def _passes(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    error = state.data
    return isinstance(error, CloudError) and error.passes
