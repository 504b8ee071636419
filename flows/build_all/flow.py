"""The flow `build-all`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.deployments.flow_runs import arun_deployment
from prefect.logging import get_run_logger

from blocks.errors import BakeryError
from flows.fleet.definitions import read_fleet
from flows.fleet.events import BUILD_ALL
from flows.fleet.file import FleetDefinition
from flows.fleet.members import Member, read_members
from flows.fleet.register import FLOW_OF
from flows.fleet.turn import Unbuilt
from flows.fleet.wave import Outcome, build_in_order, chosen, report, table
from tasks.current_image import read_current
from tasks.masking import masked

_POLL = 2
_LONGEST_WHY = 300


@flow(name="build-all", persist_result=False)
async def build_all(
    only: list[str] | None = None,
    tags: list[str] | None = None,
    limit: int = 4,
    only_changed: bool = False,
    directory: str | None = None,
) -> list[Outcome]:
    """Build definitions in order: parents before what is made from them.

    Args:
        only: Names of definitions. Default: all.
        tags: Only definitions with one of these tags.
        limit: How many are built at once.
        only_changed: Only what has changed is built: its definition, its source, or a parent's image.
        directory: Build the files of this directory in this run's own process. Default: all deployments, by their
            workers.
    """
    began = datetime.now(UTC)
    event = {"event": BUILD_ALL, "since": began.isoformat(), "only_changed": only_changed}
    build: Callable[[str], Awaitable[Outcome]]
    if directory is None:
        async with get_client() as client:
            members = await read_members(client)
        families = {name: member.family for name, member in members.items()}
        names = chosen({name: member.tags for name, member in members.items()}, only, tags)
        build = _ByDeployment(members, event)
    else:
        definitions = {each.name: each for each in read_fleet(Path(directory))}
        families = {name: each.family for name, each in definitions.items()}
        names = chosen({name: each.deployment.tags for name, each in definitions.items()}, only, tags)
        build = _InThisProcess(definitions, event)
    outcomes = await build_in_order(families, names, build, limit)
    get_run_logger().info("\n%s", masked(report(outcomes)))
    await acreate_table_artifact(
        table=[{name: masked(str(value)) for name, value in row.items()} for row in table(outcomes)],
        key="build-all",
        description="What was built, and what was not",
    )
    if bad := [each for each in outcomes if not each.is_good]:
        failed = [each.definition for each in bad if each.outcome == "failed"]
        raise BakeryError(
            f"{len(failed)} of {len(outcomes)} builds failed, {len(bad) - len(failed)} were not begun for it",
            resource=", ".join(failed),
            why=masked(f"\n{report(bad)}"),
            hint="Mend them and run it again with only_changed (--changed): what is good is not built again.",
        )
    return outcomes


class _ByDeployment:
    """Builds one definition by its deployment, and waits for that run."""

    def __init__(self, members: Mapping[str, Member], event: Mapping[str, Any]) -> None:
        self._members = members
        self._event = dict(event)

    async def __call__(self, name: str) -> Outcome:
        started = time.monotonic()
        run_id = ""
        try:
            run = await arun_deployment(
                self._members[name].deployment, parameters={"event": self._event}, poll_interval=_POLL
            )
            run_id = str(run.id)
            async with get_client() as client:
                image = await read_current(client, name)
        except Exception as error:
            return Outcome(name, "failed", why=_why(error), seconds=time.monotonic() - started, run=run_id)
        return _outcome(name, run.state, image.id if image else "", time.monotonic() - started, run_id)


class _InThisProcess:
    """Builds one definition in this process."""

    def __init__(self, definitions: Mapping[str, FleetDefinition], event: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._event = dict(event)

    async def __call__(self, name: str) -> Outcome:
        started = time.monotonic()
        found = self._definitions[name]
        build: Callable[..., Awaitable[State[Any]]] = FLOW_OF[found.build.builder]
        state = await build(found.build, definition=name, family=found.family, event=self._event, return_state=True)
        result = await state.aresult(raise_on_failure=False)
        image = "" if isinstance(result, BaseException) else result.id or ""
        run_id = str(state.state_details.flow_run_id or "")
        if isinstance(result, Unbuilt) or state.is_completed():
            return _outcome(name, state, image, time.monotonic() - started, run_id)
        why = _why(result) if isinstance(result, BaseException) else state.message or ""
        return Outcome(name, "failed", why=why, seconds=time.monotonic() - started, run=run_id)


def _outcome(name: str, state: State[Any] | None, image: str, seconds: float, run: str) -> Outcome:
    if state is None or not state.is_completed():
        why = (state.message or state.name or "") if state else "it has no state"
        return Outcome(name, "failed", why=why[:_LONGEST_WHY], seconds=seconds, run=run)
    if state.name == "Completed":
        return Outcome(name, "built", image, seconds=seconds, run=run)
    return Outcome(name, "unchanged", image, why=state.message or "", seconds=seconds, run=run)


def _why(error: BaseException) -> str:
    return " ".join(masked(str(error)).split())[:_LONGEST_WHY]
