"""The flow `build-outscale-image`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from uuid import UUID

from prefect import Flow, flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled
from pydantic import BaseModel

from blocks.outscale.models import Image, Vm, Volume
from flows.fleet.family import Family
from flows.fleet.turn import take_turn, tell_built, tell_failed
from flows.forms import Form
from flows.manifest import write_manifest
from flows.outscale_image.definition import OutscaleImageDefinition
from flows.outscale_image.plan import Plan, make_plan
from flows.oven import clean_up_after, oven
from tasks.answered import until_answered
from tasks.attended import BuildCancelled
from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.copied_files import CopiedFiles
from tasks.chroot.jail import Jail
from tasks.chroot.steps import (
    copy_files,
    early_cleanup,
    grow_mounted_root,
    grow_root,
    mount_device,
    mount_extra,
    run_post_mount_commands,
    run_pre_mount_commands,
)
from tasks.outscale.adopted import adopt_volume, reached
from tasks.outscale.copies import copy_source
from tasks.outscale.devices import place_on_vm
from tasks.outscale.omis import create_omi, describe_omi, set_attributes, snapshot_volume, tag_omi
from tasks.outscale.replacement import delete_old_snapshots, replace_omi
from tasks.outscale.run import OutscaleRun
from tasks.outscale.volumes import create_volume, delete_volume, link_volume, unlink_volume, wait_for_device
from tasks.page import steps_table
from tasks.provision import provision
from tasks.provisioners.facts import BuildFacts
from tasks.record import Record, remove_record
from tasks.run import StepTime


class OutscaleArtifact(BaseModel):
    """The OMI that a build made."""

    id: str
    name: str
    region: str
    size: int
    """GiB, of the root volume."""
    snapshot_id: str
    source_omi: str
    """Empty when it was made from scratch."""
    source_omi_name: str
    requests: int
    """How many requests the build made of the region's API until then."""
    steps: list[StepTime]
    """What was done, and how long each step took."""

    def report(self) -> str:
        """What a person wants to read at the end of a build."""
        source = f"{self.source_omi_name} ({self.source_omi})" if self.source_omi else "none: from scratch"
        return (
            f"\nOMI:     {self.name}\nId:      {self.id}\nRegion:  {self.region}\nSize:    {self.size} GiB\n"
            f"Source:  {source}\n\n{steps_table(self.steps)}"
        )


async def clean_up(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Remove what a run left, in whatever process Prefect calls this hook."""
    del flow
    await clean_up_after(flow_run, state, OutscaleImageDefinition)


@flow(
    name=OutscaleImageDefinition.flow_name,
    validate_parameters=False,  # `check` does it: all mistakes at once, and no secret in an error
    persist_result=False,
    on_failure=[clean_up, tell_failed],
    on_crashed=[clean_up, tell_failed],
    on_cancellation=[clean_up, tell_failed],
)
async def build_outscale_image(
    build: Annotated[OutscaleImageDefinition, Form(OutscaleImageDefinition.sections)],
    resume: UUID | None = None,
    definition: str | None = None,
    family: Family | None = None,
    event: dict[str, Any] | None = None,
) -> OutscaleArtifact | State[Any]:
    """Bake an OMI in a chroot on this OUTSCALE VM.

    A volume made of the source OMI's snapshot is linked to this VM, mounted in a jail, provisioned there, unlinked and
    made into a new OMI. Whatever way the build ends, nothing temporary is left that was not to be kept.

    Args:
        build: What is built.
        resume: A flow run whose build was kept when it failed: go on with that, at the provisioner that failed.
        definition: The definition's name in its fleet, whose current image the new one becomes.
        family: What the definition is made of, and when it is built again.
        event: The payload of the event that starts this build.
    """
    turn = await take_turn(OutscaleImageDefinition, build, name=definition, family=family, event=event, resume=resume)
    if isinstance(turn, State):
        return turn
    try:
        async with oven(turn.definition, resume, parents=turn.parents, children=turn.children) as run:
            for warning in turn.definition.warnings():
                run.logger.warning("%s", warning)
            plan, omi = await until_answered(run, partial(_bake, run, turn.definition))
            root_volume = next(
                d.bsu for d in omi.block_device_mappings if d.device_name == omi.root_device_name and d.bsu
            )
            run.made = {
                "name": plan.name,
                "id": omi.image_id,
                "region": run.client.region,
                "size": f"{root_volume.volume_size} GiB",
                "snapshot": str(root_volume.snapshot_id),
            }
            run.logger.info("Baked OMI %s (%s)", plan.name, omi.image_id)
            await write_manifest(run, turn.definition, f"{run.client.region}:{omi.image_id}")
    except BuildCancelled as cancelled:
        return Cancelled(message=str(cancelled))
    await tell_built(turn, run)
    return OutscaleArtifact(
        id=omi.image_id,
        name=plan.name,
        region=run.client.region,
        size=root_volume.volume_size or 0,
        snapshot_id=str(root_volume.snapshot_id),
        source_omi=plan.source.image_id if plan.source else "",
        source_omi_name=plan.source.image_name if plan.source else "",
        requests=run.client.requests,
        steps=run.steps,
    )


async def _bake(run: OutscaleRun, definition: OutscaleImageDefinition) -> tuple[Plan, Image]:
    plan = await make_plan(run, definition)
    source = base = plan.source
    if source is not None:
        run.source = {"name": source.image_name, "id": source.image_id}
    if plan.finished is not None:
        run.logger.info("An earlier attempt of this run finished the OMI %s", plan.finished.image_id)
        await describe_omi(run, plan.finished, plan.description)
        return plan, plan.finished

    if source is not None and plan.foreign:
        base = await copy_source(run, source, plan.account.account_id, definition.omi_wait)
    kept = await adopt_volume(run, plan.vm) if run.goes_on else None
    if kept is not None and kept.is_provisioned:
        volume = kept.volume
    else:
        async with place_on_vm(run, definition.max_parallel_devices):
            if kept is not None:
                volume = kept.volume
            else:
                volume = await create_volume(run, plan.volume(base), plan.root_volume_tags, definition.volume_wait)
            device = await link_volume(run, volume, plan.vm, definition.link_name)
            device = definition.nvme_device_path or device
            disk = await wait_for_device(run, volume, device, definition.link_wait)
            run.when_kept = partial("volume {}, linked as {}".format, volume.volume_id, device)
            try:
                await _provision_disk(run, definition, plan.vm, volume, disk, is_prepared=kept is not None)
            except Exception:
                if run.keeps and not definition.keep_linked:
                    await unlink_volume(run, volume, disk, definition.unlink_wait)
                    run.when_kept = partial("link volume {} to a VM".format, volume.volume_id)
                raise
            await unlink_volume(run, volume, disk, definition.unlink_wait)
        await reached(run, volume, "provisioned")

    snapshot = await snapshot_volume(run, volume, plan.description, definition.snapshot_wait)
    if not definition.keeps:
        await delete_volume(run, volume)
    new = plan.omi(base, snapshot, copied=plan.foreign)
    if plan.old is None:
        omi = await create_omi(run, new.request, plan.account.account_id, definition.omi_wait)
        if new.share.anybody:
            await set_attributes(run, omi, snapshot, new.share)
        await tag_omi(run, omi, new.snapshots, new.tags, new.snapshot_tags)
    else:
        omi = await replace_omi(run, plan.old, new, plan.account.account_id, definition.omi_wait)
        if definition.force_delete_snapshot:
            in_use = [image for image in (omi, source, base) if image is not None]
            await delete_old_snapshots(run, plan.old, in_use)
    await describe_omi(run, omi, plan.description)
    return plan, omi


async def _provision_disk(
    run: OutscaleRun,
    definition: OutscaleImageDefinition,
    vm: Vm,
    volume: Volume,
    disk: str,
    *,
    is_prepared: bool,
) -> None:
    """What is done to the volume while it is linked. One that an earlier try prepared keeps its file systems."""
    if not is_prepared:
        if definition.pre_mount_commands:
            await run_pre_mount_commands(run, definition.pre_mount_commands, definition.command_wrapper, disk)
        if definition.grow_root:
            await grow_root(run, disk, definition.mount_partition)
    async with Jail(definition.mount_point(disk), run.logger) as jail:
        await mount_device(run, jail, disk, definition.mount_partition, definition.mount_options)
        if not is_prepared:
            if definition.grow_root:
                await grow_mounted_root(run, jail)
            if commands := definition.post_mount_commands:
                await run_post_mount_commands(run, jail, commands, definition.command_wrapper, disk)
            await reached(run, volume, "prepared")
        await mount_extra(run, jail, definition.mounts(), disk)
        copied = CopiedFiles(jail, run.logger)
        await copy_files(run, copied, definition.copied_files)
        communicator = JailCommunicator(jail, definition.command_wrapper)
        try:
            await provision(
                run,
                communicator,
                definition.provisioners,
                base=definition.base,
                facts=BuildFacts.of(
                    run, build_name=definition.build_name, builder=definition.builder, instance_id=vm.vm_id
                ),
                error_cleanup=definition.error_cleanup_provisioner,
                record=await Record.read(communicator, str(run.lineage.origin)) if definition.keeps else None,
            )
            if definition.keeps:
                await remove_record(communicator)
        except Exception:
            if definition.keeps:
                await early_cleanup(run, jail, copied, trim=False)
            raise
        await early_cleanup(run, jail, copied, trim=definition.trim)
