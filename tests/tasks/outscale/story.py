"""A whole build but for what happens on the disk, which needs no devices."""

from __future__ import annotations

from typing import Any

from blocks.outscale.models import Image
from flows.outscale_image.definition import OutscaleImageDefinition
from flows.outscale_image.plan import make_plan
from tasks.outscale.copies import copy_source
from tasks.outscale.omis import create_omi, describe_omi, set_attributes, snapshot_volume, tag_omi
from tasks.outscale.replacement import delete_old_snapshots, replace_omi
from tasks.outscale.run import OutscaleRun
from tasks.outscale.volumes import create_volume, delete_volume

TIME = 20.0


async def bake(run: OutscaleRun, definition: OutscaleImageDefinition) -> Image:
    """What the flow does, in its order, without link, jail and provisioners."""
    plan = await make_plan(run, definition)
    account, base = plan.account.account_id, plan.source
    if plan.source is not None and plan.foreign:
        base = await _do(copy_source, run, plan.source, account, TIME)
    volume = await _do(create_volume, run, plan.volume(base), plan.root_volume_tags, TIME)
    snapshot = await _do(snapshot_volume, run, volume, plan.description, TIME)
    await _do(delete_volume, run, volume)
    new = plan.omi(base, snapshot, copied=plan.foreign)
    if plan.old is None:
        omi: Image = await _do(create_omi, run, new.request, account, TIME)
        await _do(set_attributes, run, omi, snapshot, new.share)
        await _do(tag_omi, run, omi, new.snapshots, new.tags, new.snapshot_tags)
    else:
        omi = await _do(replace_omi, run, plan.old, new, account, TIME)
        if definition.force_delete_snapshot:
            in_use = [image for image in (omi, plan.source, base) if image is not None]
            await _do(delete_old_snapshots, run, plan.old, in_use)
    await _do(describe_omi, run, omi, plan.description)
    return omi


async def _do(step: Any, *args: Any) -> Any:
    return await step.fn(*args)
