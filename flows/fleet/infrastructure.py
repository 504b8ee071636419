"""What deployments need on a Prefect server: block types, work pools, queues, the server's own name."""

from __future__ import annotations

from collections.abc import Iterable

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from blocks.outscale.credentials import OutscaleCredentials
from blocks.oxide.credentials import OxideCredentials
from flows.fleet.deployment import WORK_POOL, QueueOptions
from flows.fleet.file import FleetDefinition
from tasks.server import server_name

QUEUE_MARK = "Made because a definition names it"
"""The description of a queue that was made here."""


async def work_pools(client: PrefectClient, definitions: Iterable[FleetDefinition]) -> dict[str, bool]:
    """The work pools that deployments name, and whether they are there."""
    return {
        name: await _has_pool(client, name)
        for name in sorted({WORK_POOL, *(definition.deployment.work_pool for definition in definitions)})
    }


async def _has_pool(client: PrefectClient, name: str) -> bool:
    try:
        await client.read_work_pool(name)
    except ObjectNotFound:
        return False
    return True


def queues(definitions: Iterable[FleetDefinition]) -> dict[tuple[str, str], QueueOptions]:
    """The queues that definitions name, by pool and name, each with the limit that one of them gives."""
    found: dict[tuple[str, str], QueueOptions] = {}
    for definition in definitions:
        queue = definition.deployment.work_queue
        place = (definition.deployment.work_pool, queue.name)
        if place not in found or queue.concurrency_limit is not None:
            found[place] = queue
    return found


async def register(client: PrefectClient, definitions: Iterable[FleetDefinition]) -> None:
    """Make what is not there, and give each queue the limit that definitions say.

    Work pools are made for process workers. One that is there keeps its type and its settings.
    """
    for block_type in (OxideCredentials, OutscaleCredentials):
        await block_type.register_type_and_schema(client=client)
    await server_name()
    definitions = list(definitions)
    for name, is_there in (await work_pools(client, definitions)).items():
        if not is_there:
            template = ProcessWorker.get_default_base_job_template()
            await client.create_work_pool(
                WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
            )
    for (pool_name, name), queue in queues(definitions).items():
        try:
            there = await client.read_work_queue_by_name(name, work_pool_name=pool_name)
        except ObjectNotFound:
            await client.create_work_queue(
                name, QUEUE_MARK, concurrency_limit=queue.concurrency_limit, work_pool_name=pool_name
            )
        else:
            if there.description == QUEUE_MARK or queue.concurrency_limit is not None:
                await client.update_work_queue(there.id, concurrency_limit=queue.concurrency_limit)
