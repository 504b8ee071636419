"""Going on with a volume that an earlier try of the build kept.

How far that try came is a tag of the volume: its file systems are `prepared` once the mount commands are through, and
it is `provisioned` once it has had all provisioners and is unlinked for its snapshot. Builds that are not to be kept do
without the tag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blocks.errors import NothingKept
from blocks.outscale.models import Vm, Volume, VolumeFilters
from tasks.outscale.run import OutscaleRun
from tasks.outscale.tokens import STAGE_TAG, mark_of, tokens, values
from tasks.step import step

Stage = Literal["prepared", "provisioned"]


@dataclass(frozen=True)
class Adopted:
    """A volume that an earlier try of the build made."""

    volume: Volume
    is_provisioned: bool
    """Whether it has had all provisioners."""


@step("look for a kept volume")
async def adopt_volume(run: OutscaleRun, vm: Vm) -> Adopted | None:
    """Find the volume that an earlier try of this build kept. One that was not prepared is left to the teardown.

    Raises:
        NothingKept: it is linked to another VM, where something may use it.
    """
    found: list[tuple[Volume, str]] = []
    async for volume in run.client.volumes(VolumeFilters(client_tokens=tokens(run.lineage))):
        stage = values(volume.tags).get(STAGE_TAG)
        mark = mark_of(volume.tags, volume.client_token, volume.creation_date)
        if stage is not None and run.lineage.adopts(mark):
            found.append((volume, stage))
    if not found:
        return None
    volume, stage = found[0]
    elsewhere = [link.vm_id for link in volume.linked_volumes if link.vm_id != vm.vm_id]
    if elsewhere:
        raise NothingKept(
            "the kept volume is linked to another VM",
            resource=f"volume {volume.volume_id}",
            why=f"it is linked to VM {elsewhere[0]}, and this is {vm.vm_id}",
            hint="Go on with the build there, or unlink the volume. Without keep_linked it is unlinked when kept.",
        )
    run.logger.info("Going on with the kept volume %s, which is %s", volume.volume_id, stage)
    return Adopted(volume, stage == "provisioned")


async def reached(run: OutscaleRun, volume: Volume, stage: Stage) -> None:
    """Write down how far a volume has come, if the build may be kept."""
    if run.mark.keep is not None:
        await run.client.create_tags([volume.volume_id], {STAGE_TAG: stage})
