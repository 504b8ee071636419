"""What stands around every build: credentials, the run's mark, the reaper, teardown, the build page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.logging import get_run_logger
from prefect.logging.loggers import flow_run_logger
from pydantic import ValidationError

from blocks.errors import BakeryError, CredentialsError, DefinitionError, NothingKept, SecretUnavailable
from blocks.settings import settings
from flows.definition import BuildDefinition
from flows.forms import without_sections
from tasks import begun
from tasks.attended import attempt_here, attended, attended_here, cleaned_up_here, left_to_reaper
from tasks.cloud import Cloud
from tasks.kept import forget_key
from tasks.mark import LOCAL_SERVER, HostProcess, Lineage, Mark
from tasks.masking import mask_error
from tasks.page import build_page, publish
from tasks.person import someone_can_be_asked
from tasks.progress import Progress
from tasks.reaper_line import Watch, watch
from tasks.run import Logger, Run
from tasks.runs import warn_of_rare_heartbeats
from tasks.server import server_name
from tasks.side_by_side import side_by_side
from tasks.teardown import Ground, Removal, find, tear_down
from tasks.unseen import tear_down_run, unseen

RunT = TypeVar("RunT", bound=Run)

_HOOK_SETTLES = 5


@asynccontextmanager
async def oven(
    definition: BuildDefinition[RunT],
    resume: UUID | None = None,
    *,
    parents: Mapping[str, str] | None = None,
    children: Sequence[str] = (),
) -> AsyncIterator[RunT]:
    """Around a build: afterwards nothing temporary is left that was not to be kept, and the build page is there.

    Args:
        definition: What is built.
        resume: Another run, whose kept build this one goes on with.
        parents: The images of its parent definitions, by definition, for the build page.
        children: The definitions that are built again after it, for the build page.

    Yields:
        The run.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    flow_run = context.flow_run
    server = asyncio.create_task(server_name())
    async with definition.cloud() as cloud:
        now = datetime.now(UTC)
        mark = Mark(
            run=flow_run.id,
            attempt=flow_run.run_count or 1,
            server=await server,
            host=HostProcess.current(),
            until=now + timedelta(seconds=definition.deadline, hours=1),
            keep=now + timedelta(seconds=definition.keep_for) if definition.keeps else None,
        )
        if not someone_can_be_asked(mark.server) and (mistakes := definition.mistakes_with_nobody_to_ask()):
            raise DefinitionError(mistakes)
        lineage = Lineage(mark.run, mark.attempt, resume)
        ground = cloud.ground(lineage)
        if resume is not None:
            await check_kept(ground, resume)
        line = watch(Watch(lineage, cloud.ground_elsewhere, keeps=definition.keeps))
        run = cloud.run(mark, flow_run.created or now, get_run_logger(), line)
        run.lineage = lineage
        # Prefect counts no new attempt when a suspended run goes on, and forgets the keys when one begins.
        keys = flow_run.empirical_policy.pause_keys or ()
        run.suspended = sum(run.suspension(number + 1) in keys for number in range(len(keys)))
        run.goes_on = definition.keeps and (run.attempt > 1 or run.suspended > 0 or resume is not None)
        run.keeps = definition.on_error == "keep"
        run.asks = definition.on_error == "ask"
        run.is_rescheduled = flow_run.deployment_id is not None
        run.parents, run.children = parents or {}, children
        run.command = f"{definition.command} {definition.definition_file or 'BUILD.yaml'}"
        if mark.server != LOCAL_SERVER:
            warn_of_rare_heartbeats(run.logger)
        dead = begun.dead_here(cloud.ground_elsewhere)
        begun.begin(mark, cloud.ground_elsewhere)
        progress = Progress(run, definition.usual_steps + len(definition.provisioners))
        failure: BaseException | None = None
        try:
            async with _reclaimed_beside(cloud, dead, run), attended(run, ground, line, definition.deadline):
                yield run
        except BaseException as error:
            failure = error
            raise
        finally:
            # A run is suspended because of an error.
            told = failure.__context__ if isinstance(failure, Pause) else failure
            if told is None or isinstance(told, Exception):
                page = build_page(run, f"Image {definition.build_name}", definition.as_yaml(), told)
                async with side_by_side() as last_words:
                    last_words.create_task(progress.end(failure))
                    key = f"{definition.builder}-{definition.build_name}"
                    last_words.create_task(publish(run.logger, key, page))
            else:
                progress.cut()


@asynccontextmanager
async def _reclaimed_beside(cloud: Cloud[Any], dead: Sequence[Mark], run: Run) -> AsyncIterator[None]:
    """While a build goes on, remove what dead builds of this host left in the same place."""
    if not dead:
        yield
        return
    builds = ", ".join(sorted({str(mark.run) for mark in dead}))
    run.logger.warning("Builds of this host died and may have left something: %s. Looking for it meanwhile.", builds)

    async def reclaim() -> None:
        attempts = {(mark.run, mark.attempt) for mark in dead}
        ground = cloud.ground(None)
        removal = await tear_down(ground, lambda mark: (mark.run, mark.attempt) in attempts, logger=run.logger)
        removal.raise_for_left()
        for mark in dead:
            begun.end(mark.run, mark.attempt)

    task = asyncio.create_task(reclaim())
    try:
        yield
        await asyncio.wait([task])
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            mask_error(error)
            run.logger.error("What dead builds left could not be removed: %s", error)


async def check_kept(ground: Ground, resume: UUID) -> None:
    """See that a build which is to be gone on with is there, and that nobody works on it.

    Raises:
        NothingKept: nothing of that run is there, or it was not to be kept, or it is still being built.
    """
    found = await find(ground, lambda mark: mark.run == resume)
    resource = f"flow run {resume}"
    if not found:
        raise NothingKept(
            "nothing of this build is there",
            resource=resource,
            hint="It was cleaned up, or is in another project or account. Run the build without --resume.",
        )
    if any(kept.mark.host.is_alive and kept.mark.host != HostProcess.current() for kept in found):
        raise NothingKept(
            "the build that is to be resumed still runs",
            resource=resource,
            why=f"process {found[0].mark.host.pid} of this host works on it",
            hint="Wait until it has ended.",
        )
    if all(kept.mark.keep is None for kept in found):
        raise NothingKept(
            "what this build left was not to be kept",
            resource=resource,
            hint="Builds are kept when they have on_error: keep from their start. Run the build without --resume.",
        )


async def remove_kept(definition: BuildDefinition[Any], run: UUID, logger: Logger) -> Removal:
    """Remove all that a run left, kept or not.

    Raises:
        NothingKept: the build still runs on this host.
        LeftBehind: something could not be removed.
    """
    async with definition.cloud() as cloud:
        lineage = Lineage(run, 1, run)
        ground = cloud.ground(lineage)
        alive = [found for found in await find(ground, lambda mark: mark.run == run) if found.mark.host.is_alive]
        if alive:
            raise NothingKept(
                "this build still runs",
                resource=f"flow run {run}",
                why=f"process {alive[0].mark.host.pid} of this host works on it",
                hint="Cancel it: prefect flow-run cancel, or Ctrl-C where it runs.",
            )
        removal = await tear_down_run(ground, lineage, lambda mark: mark.run == run, logger=logger)
    forget_key(run)
    begun.end(run, max((resource.mark.attempt for resource in removal.removed), default=1))
    return removal


async def clean_up_after(flow_run: FlowRun, state: State[Any], model: type[BuildDefinition[Any]]) -> None:
    """What the hooks do: remove what a run left, with the credentials that its parameters lead to.

    What is to be kept stays, unless the run was cancelled. A process that still builds is left to clean up by itself;
    attempts that began after this hook was called are not touched.
    """
    context = FlowRunContext.get()
    if context is not None and not attended_here(flow_run.id):
        return  # it ended before it began: nothing was created
    if left_to_reaper(flow_run.id):
        return
    async with get_client() as client:
        current = await client.read_flow_run(flow_run.id)
    # Called late, it may find that the next attempt has begun.
    began_again = current.state and current.state.is_running() and current.state.timestamp > state.timestamp
    attempts = attempt_here(flow_run.id) or current.run_count - bool(began_again)
    if cleaned_up_here(flow_run.id, attempts):
        return
    try:
        definition = model.model_validate(without_sections(model.sections, current.parameters.get("build")))
    except ValidationError:
        return  # such a build never began
    ourselves = HostProcess.current()
    # What a process that is gone had just asked for may still come into being. The reaper, who knows what that was,
    # looks on for longer; here it would hold up the run's final state.
    settle = 0 if attended_here(flow_run.id) else min(settings().settle_time, _HOOK_SETTLES)

    resumed = current.parameters.get("resume")
    lineage = Lineage(flow_run.id, attempts, UUID(str(resumed)) if resumed else None)

    def belongs(mark: Mark) -> bool:
        return (
            lineage.owns(mark)
            and (mark.keep is None or state.is_cancelled())
            and (mark.host == ourselves or mark.host.is_alive is not True)
        )

    try:
        try:
            async with definition.cloud() as cloud:
                ground = cloud.ground(lineage)
                await tear_down_run(ground, lineage, belongs, logger=flow_run_logger(flow_run), settle=settle)
        except (CredentialsError, SecretUnavailable) as error:
            raise unseen(lineage, error, definition.place_by_hand) from error
    except BakeryError as error:
        await _say_in_state(flow_run, error)
        raise
    begun.end(flow_run.id, attempts)


async def _say_in_state(flow_run: FlowRun, error: BakeryError) -> None:
    """Put what is left into the run's state, where people look first. That of a cancelled run is yet to come."""
    mask_error(error)
    async with get_client() as client:
        state = (await client.read_flow_run(flow_run.id)).state
        if state is not None and state.is_final():
            said = State(type=state.type, name=state.name, message=f"{state.message or ''}\n{error}".strip())
            await client.set_flow_run_state(flow_run.id, said, force=True)
