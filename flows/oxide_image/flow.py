"""The flow `build-oxide-image`."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from prefect import Flow, flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled
from pydantic import BaseModel

from blocks.oxide.models import GIB, Image
from flows.fleet.family import Family
from flows.fleet.turn import take_turn, tell_built, tell_failed
from flows.forms import Form
from flows.manifest import write_manifest
from flows.oven import clean_up_after, oven
from flows.oxide_image.definition import OxideImageDefinition
from tasks.answered import until_answered
from tasks.attended import BuildCancelled
from tasks.oxide.adopted import adopt_instance, retire_temporary_key
from tasks.oxide.check import check_with_region
from tasks.oxide.images import register_image, snapshot_boot_disk
from tasks.oxide.instances import (
    connect,
    create_temporary_key,
    find_address,
    launch_instance,
    shut_down,
    wait_until_running,
)
from tasks.oxide.plan import Plan
from tasks.oxide.replacing import has_former, make_stand_in, remove_former
from tasks.oxide.room import Room
from tasks.oxide.run import OxideRun
from tasks.page import steps_table
from tasks.provision import provision
from tasks.provisioners.facts import BuildFacts
from tasks.record import Record, remove_record
from tasks.run import StepTime
from tasks.ssh.steps import forget_temporary_key, prepare_log_in
from tasks.ssh.temporary_key import public_line


class OxideArtifact(BaseModel):
    """The image that a build made, if it was to make one."""

    id: str | None
    """None with `skip_create_image`."""
    name: str
    project: str | None
    """Name or id, as in the definition. None: it is the silo's."""
    size: int
    """Bytes."""
    os: str
    version: str
    source_image_id: str
    source_image_name: str
    steps: list[StepTime]
    """What was done, and how long each step took."""

    def report(self) -> str:
        """What a person wants to read at the end of a build."""
        source = f"Source:  {self.source_image_name} ({self.source_image_id})\n\n{steps_table(self.steps)}"
        if self.id is None:
            return f"\nImage:   none (skip_create_image)\n{source}"
        return (
            f"\nImage:   {self.name}\nId:      {self.id}\nProject: {self.project or 'none, the silo has it'}\n"
            f"Size:    {self.size / GIB:g} GiB\n{source}"
        )


async def clean_up(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Remove what a run left, in whatever process Prefect calls this hook."""
    del flow
    await clean_up_after(flow_run, state, OxideImageDefinition)


@flow(
    name=OxideImageDefinition.flow_name,
    validate_parameters=False,  # `check` does it: all mistakes at once, and no secret in an error
    persist_result=False,
    on_failure=[clean_up, tell_failed],
    on_crashed=[clean_up, tell_failed],
    on_cancellation=[clean_up, tell_failed],
)
async def build_oxide_image(
    build: Annotated[OxideImageDefinition, Form(OxideImageDefinition.sections)],
    resume: UUID | None = None,
    definition: str | None = None,
    family: Family | None = None,
    event: dict[str, Any] | None = None,
) -> OxideArtifact | State[Any]:
    """Bake a machine image on a temporary Oxide instance.

    The instance is launched from the source image, provisioned over SSH and shut down from inside; its boot disk
    becomes the new image. Whatever way the build ends, nothing temporary is left that was not to be kept.

    Args:
        build: What is built.
        resume: A flow run whose build was kept when it failed: go on with that, at the provisioner that failed.
        definition: The definition's name in its fleet, whose current image the new one becomes.
        family: What the definition is made of, and when it is built again.
        event: The payload of the event that starts this build.
    """
    turn = await take_turn(OxideImageDefinition, build, name=definition, family=family, event=event, resume=resume)
    if isinstance(turn, State):
        return turn
    try:
        async with oven(turn.definition, resume, parents=turn.parents, children=turn.children) as run:
            plan, image = await until_answered(run, partial(_bake, run, turn.definition))
            if image is not None:
                run.made = plan.made_facts(image)
                run.logger.info("Baked image %s (%s)", image.name, image.id)
                await write_manifest(run, turn.definition, image.id)
    except BuildCancelled as cancelled:
        return Cancelled(message=str(cancelled))
    await tell_built(turn, run)
    return OxideArtifact(
        id=image.id if image else None,
        name=plan.image.name,
        project=plan.image.project,
        size=image.size if image else 0,
        os=plan.image.os,
        version=plan.image.version,
        source_image_id=plan.source.id,
        source_image_name=plan.source.name,
        steps=run.steps,
    )


async def _bake(run: OxideRun, definition: OxideImageDefinition) -> tuple[Plan, Image | None]:
    plan = await check_with_region(run, definition, build_name=definition.build_name, base=definition.base)
    run.source = plan.source_facts
    if plan.finished is not None:
        return plan, plan.finished

    log_in = await prepare_log_in(run, definition, definition.base, run.token)
    key = log_in.key if log_in else None
    room = Room(definition.capacity_retry, run.logger)
    adopted = await adopt_instance(run, public_line(key) if key else None) if run.goes_on else None
    if adopted is None:
        registered = await create_temporary_key(run, plan.key_name, public_line(key)) if key else None
        plan = plan.launched_with(registered, definition.own_user_data(run))
        instance = await launch_instance(run, plan, room)
    else:
        instance = adopted.instance

    if adopted is None or not adopted.is_provisioned:
        instance = await wait_until_running(run, instance, definition.seconds_to_start, room)
        if log_in is None:
            await shut_down(run, None, instance, definition.seconds_to_shut_down)
        else:
            address = definition.ssh_host or await find_address(run, instance, plan)
            run.when_kept = partial(log_in.way_in, run, address)
            with closing(log_in.guest_at(address)) as guest:
                await connect(run, guest, instance, definition.connect_timeout)
                await provision(
                    run,
                    guest,
                    definition.provisioners,
                    base=definition.base,
                    facts=BuildFacts.of(
                        run,
                        build_name=definition.build_name,
                        builder=definition.builder,
                        instance_id=instance.id,
                        **log_in.facts(address),
                    ),
                    error_cleanup=definition.error_cleanup_provisioner,
                    record=await Record.read(guest, str(run.lineage.origin)) if definition.keeps else None,
                )
                if definition.keeps:
                    await remove_record(guest)
                if key is not None and definition.ssh_clear_authorized_keys:
                    await forget_temporary_key(run, guest, key)
                await shut_down(run, guest, instance, definition.seconds_to_shut_down)
            if definition.keeps:
                await retire_temporary_key(run)

    if not plan.makes_image:
        return plan, None
    snapshot = await snapshot_boot_disk(run, instance)
    if definition.force and await has_former(run, plan.image):
        await make_stand_in(run, plan.image, snapshot)
        await remove_former(run, plan.image)
    return plan, await register_image(run, plan.image, snapshot)
