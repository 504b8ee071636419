"""The fleet as a Prefect server knows it: from its deployments, their runs, and the artifacts of their builds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from pydantic import ValidationError

from flows.definition import BuildDefinition
from flows.fleet.events import BUILT
from flows.fleet.family import Family
from flows.fleet.fleet import Fleet
from flows.forms import without_sections
from flows.kinds import OF_FLOW
from tasks.current_image import GoodImage, read_currents
from tasks.side_by_side import side_by_side

_PAGE = 200
_SOON = timedelta(minutes=2)
_GOING_ON = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
_ENDED_BADLY = {StateType.FAILED, StateType.CRASHED, StateType.CANCELLED}


@dataclass(frozen=True)
class Member:
    """A definition of the fleet, as its deployment says."""

    name: str
    family: Family
    model: type[BuildDefinition[Any]]
    build: Mapping[str, Any]
    """The definition's options."""
    deployment: UUID
    tags: frozenset[str]

    def definition(self) -> BuildDefinition[Any]:
        """The build definition.

        Raises:
            ValidationError: it is none; a newer version of this program made it perhaps.
        """
        return self.model.model_validate(without_sections(self.model.sections, dict(self.build)))


async def read_members(client: PrefectClient) -> dict[str, Member]:
    """All definitions that have a deployment, by name."""
    members: dict[str, Member] = {}
    for offset in range(0, 100 * _PAGE, _PAGE):
        page = await client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(OF_FLOW))), limit=_PAGE, offset=offset
        )
        flows = {flow.id: flow.name for flow in await _flows(client)}
        for deployment in page:
            given = deployment.parameters
            name = given.get("definition")
            if not isinstance(name, str) or deployment.flow_id not in flows:
                continue
            try:
                family = Family.model_validate(given.get("family") or {})
            except ValidationError:
                continue
            model = OF_FLOW[flows[deployment.flow_id]]
            tags = frozenset(deployment.tags)
            members[name] = Member(name, family, model, given.get("build") or {}, deployment.id, tags)
        if len(page) < _PAGE:
            break
    return members


async def _flows(client: PrefectClient) -> Collection[Any]:
    return await client.read_flows(flow_filter=FlowFilter(name=FlowFilterName(any_=list(OF_FLOW))), limit=_PAGE)


async def read_fleet_now(client: PrefectClient, members: Mapping[str, Member], names: Collection[str]) -> Fleet:
    """Some definitions of a fleet with all that there is to know of them, and the families of all."""
    families = {name: member.family for name, member in members.items()}
    asked = [members[name] for name in names if name in members]
    async with side_by_side() as reads:
        images = reads.create_task(read_currents(client, set(names)))
        runs = reads.create_task(_runs_under_way(client, asked))
        last = reads.create_task(last_runs(client, asked))
    active, building = going_on({member.deployment: member.name for member in asked}, runs.result(), images.result())
    return Fleet(
        families,
        images.result(),
        active,
        building,
        frozenset(name for name, run in last.result().items() if run.state_type in _ENDED_BADLY),
    )


def going_on(
    names: Mapping[UUID, str], runs: Collection[FlowRun], images: Mapping[str, GoodImage]
) -> tuple[frozenset[str], frozenset[str]]:
    """Which definitions are active, and which of them are being built: see `Fleet`.

    Args:
        names: The definition of each deployment.
        runs: The runs that are under way.
        images: The definitions' current images. A run that has made one has only its own end before it.
    """
    made = {image.run for image in images.values()}
    ours = [run for run in runs if run.deployment_id in names and run.id not in made]
    active = frozenset(names[run.deployment_id] for run in ours if run.deployment_id is not None)
    own = [run for run in ours if not _by_parent(run)]
    return active, frozenset(names[run.deployment_id] for run in own if run.deployment_id is not None)


def _by_parent(run: FlowRun) -> bool:
    event = run.parameters.get("event")
    return isinstance(event, dict) and event.get("event") == BUILT


async def _runs_under_way(client: PrefectClient, members: Collection[Member]) -> list[FlowRun]:
    """Runs that go on, wait for their turn, or were to have begun by now; not those of a schedule for later."""
    deployments = FlowRunFilterDeploymentId(any_=[member.deployment for member in members])
    if not members:
        return []
    running = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=deployments, state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_GOING_ON))
        ),
        limit=_PAGE,
    )
    waiting = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=deployments,
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=datetime.now(UTC) + _SOON),
        ),
        limit=_PAGE,
    )
    return [*running, *waiting]


async def last_runs(client: PrefectClient, members: Collection[Member]) -> dict[str, FlowRun]:
    """The last build of each definition that has ended; those without one are missing."""
    final = [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]
    found: dict[str, FlowRun] = {}

    async def read(member: Member) -> None:
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[member.deployment]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=final)),
            ),
            sort=FlowRunSort.END_TIME_DESC,
            limit=1,
        )
        if runs:
            found[member.name] = runs[0]

    async with side_by_side() as reads:
        for member in members:
            reads.create_task(read(member))
    return found
