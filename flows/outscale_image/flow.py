"""The flow `build-outscale-image`."""

from __future__ import annotations

from typing import Any

from prefect import Flow, flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled
from pydantic import BaseModel

from flows.definition import check
from flows.outscale_image.definition import OutscaleImageDefinition
from flows.oven import clean_up_after, oven
from tasks.attended import BuildCancelled
from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.copied_files import CopiedFiles
from tasks.chroot.jail import Jail
from tasks.chroot.steps import (
    copy_files,
    early_cleanup,
    mount_device,
    mount_extra,
    run_post_mount_commands,
    run_pre_mount_commands,
)
from tasks.naming import variables
from tasks.outscale.omis import create_omi, describe_omi, set_attributes, snapshot_volume, tag_omi
from tasks.outscale.source import check_credentials, check_name, check_root_device, source_omi_info, vm_info
from tasks.outscale.volumes import create_volume, link_volume, unlink_volume, wait_for_device
from tasks.page import steps_table
from tasks.provision import provision
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
    source_omi_name: str
    steps: list[StepTime]
    """What was done, and how long each step took."""

    def report(self) -> str:
        """What a person wants to read at the end of a build."""
        return (
            f"\nOMI:     {self.name}\nId:      {self.id}\nRegion:  {self.region}\nSize:    {self.size} GiB\n"
            f"Source:  {self.source_omi_name} ({self.source_omi})\n\n{steps_table(self.steps)}"
        )


async def clean_up(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Remove what a run left, in whatever process Prefect calls this hook."""
    del flow, state
    await clean_up_after(flow_run, OutscaleImageDefinition)


@flow(
    name="build-outscale-image",
    validate_parameters=False,  # `check` does it: all mistakes at once, and no secret in an error
    persist_result=False,
    on_failure=[clean_up],
    on_crashed=[clean_up],
    on_cancellation=[clean_up],
)
async def build_outscale_image(build: OutscaleImageDefinition) -> OutscaleArtifact | State[Any]:
    """Bake an OMI in a chroot on this OUTSCALE VM.

    A volume made of the source OMI's snapshot is linked to this VM, mounted in a jail, provisioned there, unlinked and
    made into a new OMI. Whatever way the build ends, nothing temporary is left.
    """
    definition = check(OutscaleImageDefinition, build)
    try:
        async with oven(definition) as run:
            account = await check_credentials(run)
            vm = await vm_info(run)
            source = await source_omi_info(run, definition.source_omi)
            run.source = {"name": source.image_name, "id": source.image_id}
            root = await check_root_device(run, source)
            values = variables(run.id, run.created, build_name=definition.build_name, source_name=source.image_name)
            name = definition.image_name(values)

            omi = await check_name(run, account, name)
            if omi is None:
                tags = definition.rendered_tags(definition.root_volume_tags, values)
                volume = await create_volume(run, definition.volume(run, vm, root), tags)
                device = await link_volume(run, volume, vm, definition.device_path)
                disk = await wait_for_device(run, device)
                await run_pre_mount_commands(run, definition.pre_mount_commands, definition.command_wrapper, disk)

                async with Jail(definition.mount_point(disk), run.logger) as jail:
                    await mount_device(run, jail, disk, definition.mount_partition, definition.mount_options)
                    await run_post_mount_commands(
                        run, jail, definition.post_mount_commands, definition.command_wrapper, disk
                    )
                    await mount_extra(run, jail, definition.mounts(), disk)
                    copied = CopiedFiles(jail, run.logger)
                    await copy_files(run, copied, definition.copy_files)
                    await provision(
                        run,
                        JailCommunicator(jail, definition.command_wrapper),
                        definition.provisioners,
                        base=definition.base,
                        variables=definition.script_variables(),
                    )
                    await early_cleanup(run, jail, copied)
                await unlink_volume(run, volume)

                description = definition.description(run, values, source)
                snapshot = await snapshot_volume(run, volume, description)
                omi = await create_omi(run, definition.omi(name, source, root, snapshot), account.account_id)
                await set_attributes(
                    run, omi, snapshot, definition.omi_account_ids, everybody=definition.global_permission
                )
                await tag_omi(
                    run,
                    omi,
                    snapshot,
                    definition.rendered_tags(definition.tags, values),
                    definition.rendered_tags(definition.snapshot_tags, values),
                )
                await describe_omi(run, omi, description)
            root_volume = next(
                d.bsu for d in omi.block_device_mappings if d.device_name == omi.root_device_name and d.bsu
            )
            run.made = {
                "name": name,
                "id": omi.image_id,
                "region": run.client.region,
                "size": f"{root_volume.volume_size} GiB",
                "snapshot": str(root_volume.snapshot_id),
            }
            run.logger.info("Baked OMI %s (%s)", name, omi.image_id)
    except BuildCancelled as cancelled:
        return Cancelled(message=str(cancelled))
    return OutscaleArtifact(
        id=omi.image_id,
        name=name,
        region=run.client.region,
        size=root_volume.volume_size or 0,
        snapshot_id=str(root_volume.snapshot_id),
        source_omi=source.image_id,
        source_omi_name=source.image_name,
        steps=run.steps,
    )
