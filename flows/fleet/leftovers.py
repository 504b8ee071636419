"""What definition files that are gone left on a Prefect server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType, WorkQueue
from prefect.client.schemas.responses import DeploymentResponse

from flows.fleet.file import FleetDefinition
from flows.fleet.infrastructure import QUEUE_MARK, queues
from flows.fleet.register import FLEET_TAG

_PAGE = 200
_GOING_ON = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]


@dataclass(frozen=True)
class Leftovers:
    """Deployments that no definition makes any more, and queues that none names."""

    deployments: dict[str, DeploymentResponse]
    """By full name."""
    building: frozenset[str]
    """Those of them with builds that are going on."""
    queues: dict[str, WorkQueue]
    """By pool and name. Only such as were made because a definition named them."""

    @property
    def names(self) -> list[str]:
        """All of them, for people."""
        return [*(f"deployment {name}" for name in self.deployments), *(f"work queue {name}" for name in self.queues)]


async def deployments(client: PrefectClient) -> dict[str, DeploymentResponse]:
    """All deployments that were made of definition files, by full name."""
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[FLEET_TAG]))
    flows: dict[object, str] = {}
    found: dict[str, DeploymentResponse] = {}
    while True:
        page = await client.read_deployments(deployment_filter=tagged, limit=_PAGE, offset=len(found))
        for deployment in page:
            if deployment.flow_id not in flows:
                flows[deployment.flow_id] = (await client.read_flow(deployment.flow_id)).name
            found[f"{flows[deployment.flow_id]}/{deployment.name}"] = deployment
        if len(page) < _PAGE:
            return found


async def left_behind(
    client: PrefectClient,
    there: Mapping[str, DeploymentResponse],
    wanted: Set[str],
    definitions: Iterable[FleetDefinition],
) -> Leftovers:
    """What is there and not wanted.

    Args:
        client: The server.
        there: Its deployments of definition files.
        wanted: The full names of those that there are to be.
        definitions: All definitions, for their queues.
    """
    gone = {name: deployment for name, deployment in there.items() if name not in wanted}
    needed = queues(definitions).keys()
    unused: dict[str, WorkQueue] = {}
    for pool in await client.read_work_pools(limit=_PAGE):
        for queue in await client.read_work_queues(work_pool_name=pool.name, limit=_PAGE):
            if queue.description == QUEUE_MARK and (pool.name, queue.name) not in needed:
                unused[f"{pool.name}/{queue.name}"] = queue
    return Leftovers(gone, frozenset([name for name in gone if await _builds(client, gone[name])]), unused)


async def prune(client: PrefectClient, leftovers: Leftovers) -> list[str]:
    """Remove them, with their schedules and automations, but for what is building now.

    Returns:
        What was removed.
    """
    removed = []
    kept_queues = set()
    for name, deployment in leftovers.deployments.items():
        if name in leftovers.building:
            kept_queues.add(deployment.work_queue_id)
            continue
        await client.delete_resource_owned_automations(f"prefect.deployment.{deployment.id}")
        await client.delete_deployment(deployment.id)
        removed.append(f"deployment {name}")
    for name, queue in leftovers.queues.items():
        if queue.id not in kept_queues:
            await client.delete_work_queue_by_id(queue.id)
            removed.append(f"work queue {name}")
    return removed


async def _builds(client: PrefectClient, deployment: DeploymentResponse) -> bool:
    runs = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_GOING_ON)),
    )
    return bool(await client.read_flow_runs(flow_run_filter=runs, limit=1))
