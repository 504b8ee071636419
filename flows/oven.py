"""What stands around every build: credentials, the run's mark, the reaper, teardown, the build page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.logging.loggers import flow_run_logger
from pydantic import ValidationError

from blocks.settings import settings
from flows.definition import BuildDefinition
from tasks.attended import attended, attended_here, cleaned_up_here
from tasks.mark import HostProcess, Mark
from tasks.page import build_page, publish
from tasks.reaper_line import watch
from tasks.run import Run
from tasks.server import server_name
from tasks.teardown import tear_down

RunT = TypeVar("RunT", bound=Run)

_HOOK_SETTLES = 5


@asynccontextmanager
async def oven(definition: BuildDefinition[RunT]) -> AsyncIterator[RunT]:
    """Around a build: afterwards nothing temporary is left, and the build page is kept.

    Yields:
        The run.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    flow_run = context.flow_run
    server = asyncio.create_task(server_name())
    async with definition.cloud() as cloud:
        timeout = settings().build_timeout
        mark = Mark(
            run=flow_run.id,
            attempt=flow_run.run_count or 1,
            server=await server,
            host=HostProcess.current(),
            until=datetime.now(UTC) + timedelta(seconds=timeout, hours=1),
        )
        line = watch(mark.run, mark.attempt, cloud.ground_elsewhere)
        run = cloud.run(mark, flow_run.created or datetime.now(UTC), get_run_logger(), line)
        failure: BaseException | None = None
        try:
            async with attended(run, cloud.ground(mark.run, mark.attempt), line, timeout):
                yield run
        except BaseException as error:
            failure = error
            raise
        finally:
            if failure is None or isinstance(failure, Exception):
                page = build_page(run, f"Image {definition.build_name}", definition.as_yaml(), failure)
                await publish(run, f"{definition.builder}-{definition.build_name}", page)


async def clean_up_after(flow_run: FlowRun, model: type[BuildDefinition[Any]]) -> None:
    """What the hooks do: remove what a run left, with the credentials that its parameters lead to.

    A process that still builds is left to clean up by itself; attempts that began after this hook was called are not
    touched.
    """
    context = FlowRunContext.get()
    if context is not None and not attended_here(flow_run.id):
        return  # it ended before it began: nothing was created
    async with get_client() as client:
        current = await client.read_flow_run(flow_run.id)
    attempts = current.run_count
    if cleaned_up_here(flow_run.id, attempts):
        return
    try:
        definition = model.model_validate(current.parameters.get("build"))
    except ValidationError:
        return  # such a build never began
    ourselves = HostProcess.current()
    # What a process that is gone had just asked for may still come into being. The reaper, who knows what that was,
    # looks on for longer; here it would hold up the run's final state.
    settle = 0 if attended_here(flow_run.id) else min(settings().settle_time, _HOOK_SETTLES)

    def belongs(mark: Mark) -> bool:
        return (
            mark.run == flow_run.id
            and mark.attempt <= attempts
            and (mark.host == ourselves or mark.host.is_alive is not True)
        )

    async with definition.cloud() as cloud:
        ground = cloud.ground(flow_run.id, attempts)
        removal = await tear_down(ground, belongs, logger=flow_run_logger(flow_run), settle=settle)
    removal.raise_for_left()
