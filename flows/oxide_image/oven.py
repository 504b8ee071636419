"""What stands around a build on Oxide: credentials, the run's mark, the reaper, teardown, the build page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.logging.loggers import flow_run_logger
from pydantic import SecretStr, ValidationError

from blocks.settings import settings
from flows.oxide_image.definition import OxideImageDefinition
from tasks import grounds
from tasks.attended import attended, attended_here, cleaned_up_here
from tasks.mark import HostProcess, Mark
from tasks.masking import keep_secret
from tasks.oxide.ground import OxideGround
from tasks.oxide.run import OxideRun
from tasks.page import build_page, publish
from tasks.reaper_line import watch
from tasks.server import server_name
from tasks.teardown import tear_down


@asynccontextmanager
async def oven(definition: OxideImageDefinition) -> AsyncIterator[tuple[OxideRun, SecretStr]]:
    """Around a build: afterwards nothing temporary is left, and the build page is kept.

    Yields:
        The run, and the API token from which the temporary key is derived.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    flow_run = context.flow_run
    credentials, server = await asyncio.gather(definition.find_credentials(), server_name())
    token = keep_secret(credentials.token)
    timeout = settings().build_timeout
    mark = Mark(
        run=flow_run.id,
        attempt=flow_run.run_count or 1,
        server=server,
        host=HostProcess.current(),
        until=datetime.now(UTC) + timedelta(seconds=timeout, hours=1),
    )
    line = watch(
        mark.run,
        mark.attempt,
        grounds.oxide(
            credentials.host,
            token,
            insecure_skip_verify=credentials.insecure_skip_verify,
            project=definition.project,
        ),
    )
    async with credentials.get_client() as client:
        created = flow_run.created or datetime.now(UTC)
        run = OxideRun(mark, created, get_run_logger(), line, client, definition.project)
        failure: BaseException | None = None
        try:
            async with attended(run, OxideGround(client, definition.project), line, timeout):
                yield run, token
        except BaseException as error:
            failure = error
            raise
        finally:
            if failure is None or isinstance(failure, Exception):
                page = build_page(run, f"Image {definition.build_name}", definition.as_yaml(), failure)
                await publish(run, f"oxide-image-{definition.build_name}", page)


async def clean_up_after(flow_run: FlowRun) -> None:
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
        definition = OxideImageDefinition.model_validate(current.parameters.get("build"))
    except ValidationError:
        return  # such a build never began
    credentials = await definition.find_credentials()
    keep_secret(credentials.token)
    ourselves = HostProcess.current()
    # What a process that is gone had just asked for may still come into being; our own told the reaper about it.
    settle = 0 if attended_here(flow_run.id) else settings().settle_time

    def belongs(mark: Mark) -> bool:
        return (
            mark.run == flow_run.id
            and mark.attempt <= attempts
            and (mark.host == ourselves or mark.host.is_alive is not True)
        )

    async with credentials.get_client() as region:
        ground = OxideGround(region, definition.project)
        removal = await tear_down(ground, belongs, logger=flow_run_logger(flow_run), settle=settle)
    removal.raise_for_left()
