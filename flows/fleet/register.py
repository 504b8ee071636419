"""Deployments that definitions ask for, and how they get onto a Prefect server."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.events import DeploymentTriggerTypes

from flows.fleet.deployment import QUEUE, DeploymentOptions, QueueOptions, ScheduleOptions
from flows.fleet.file import FleetDefinition
from flows.fleet.triggers import cascade
from flows.forms import in_sections
from flows.outscale_image.definition import OutscaleImageDefinition
from flows.outscale_image.flow import build_outscale_image
from flows.oxide_image.definition import OxideImageDefinition
from flows.oxide_image.flow import build_oxide_image
from flows.reclaim import reclaim

FLEET_TAG = "image-bakery-fleet"
"""What tells deployments that were made because of definition files."""
BUILD_TAG = "image-build"
"""What tells all builds: reclaim looks after runs of this tag that end badly."""

FLOW_OF: Mapping[str, Flow[..., Any]] = {
    OxideImageDefinition.builder: build_oxide_image,
    OutscaleImageDefinition.builder: build_outscale_image,
}
"""Each builder's flow."""

_RECLAIM_EVERY = 600


@dataclass(frozen=True)
class Wanted:
    """A deployment as it is to be."""

    flow: Flow[..., Any]
    name: str
    description: str
    options: DeploymentOptions
    tags: Sequence[str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    triggers: Sequence[DeploymentTriggerTypes] = ()

    @property
    def full_name(self) -> str:
        """How Prefect calls it."""
        return f"{self.flow.name}/{self.name}"


def wanted(definitions: Iterable[FleetDefinition], root: Path) -> list[Wanted]:
    """The deployments that definitions ask for: one each, and reclaim on every OUTSCALE VM that has a queue.

    Args:
        definitions: All definitions of the fleet.
        root: The directory that a worker's pull step brings about. Definitions below it are named relative to it.
    """
    definitions = list(definitions)
    return [*(_build(each, root) for each in definitions), *_reclaims(definitions)]


def _build(definition: FleetDefinition, root: Path) -> Wanted:
    file = definition.file.resolve()
    named = str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
    build = definition.build.model_copy(update={"definition_file": named})
    options = definition.deployment
    return Wanted(
        FLOW_OF[definition.build.builder],
        definition.name,
        options.description or f"{definition.build.builder}, from {definition.file.name}",
        options,
        [BUILD_TAG, FLEET_TAG, *options.tags],
        {
            "build": in_sections(build.sections, build),  # where the form that starts a build by hand looks for them
            "definition": definition.name,
            "family": definition.family.model_dump(mode="json", exclude_defaults=True),
        },
        [*cascade(definition.name, definition.family), *options.triggers],
    )


def _reclaims(definitions: Iterable[FleetDefinition]) -> Iterable[Wanted]:
    """A volume that is linked to a VM is only removed from there: that VM's queue has a reclaim of its own."""
    chroots = [each for each in definitions if each.build.builder == OutscaleImageDefinition.builder]
    places = {(each.deployment.work_pool, each.deployment.work_queue.name) for each in chroots}
    for pool, queue in sorted(places):
        if queue != QUEUE:
            options = DeploymentOptions(
                schedule=ScheduleOptions(interval=_RECLAIM_EVERY), work_pool=pool, work_queue=QueueOptions(name=queue)
            )
            about = f"Remove what dead builds left, also of volumes that are linked to the VM of the queue {queue}."
            yield Wanted(reclaim, queue, about, options, [FLEET_TAG])


async def deploy(
    client: PrefectClient, wish: Wanted, *, root: Path, pull: Sequence[Mapping[str, Any]], version: str
) -> UUID:
    """Make a deployment, or bring it up to date, with its schedules and automations."""
    options = wish.options
    limit = options.concurrency_limit
    deployment = await client.create_deployment(
        flow_id=await client.create_flow(wish.flow),
        name=wish.name,
        version=version,
        entrypoint=f"{Path(inspect.getfile(wish.flow.fn)).relative_to(root)}:{wish.flow.fn.__name__}",
        description=wish.description,
        parameters=dict(wish.parameters),
        parameter_openapi_schema=wish.flow.parameters.model_dump_for_openapi(),
        enforce_parameter_schema=True,
        schedules=[
            DeploymentScheduleCreate(
                schedule=schedule.as_prefect(), active=schedule.active, slug=schedule.slug or f"schedule-{number}"
            )
            for number, schedule in enumerate(options.all_schedules, start=1)
        ],
        tags=list(wish.tags),
        work_pool_name=options.work_pool,
        work_queue_name=options.work_queue.name,
        concurrency_limit=limit.limit if limit else None,
        concurrency_options=ConcurrencyOptions.model_validate(limit.model_dump(exclude={"limit"})) if limit else None,
        paused=options.paused,
        pull_steps=[dict(step) for step in pull],
    )
    await client.delete_resource_owned_automations(f"prefect.deployment.{deployment}")
    for number, trigger in enumerate(wish.triggers, start=1):
        trigger.set_deployment_id(deployment)
        trigger.name = trigger.name or f"{wish.name}: event {number}"
        await client.create_automation(trigger.as_automation())
    return deployment
