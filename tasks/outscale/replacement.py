"""Replacing an OMI of the same name, so that at no moment there is neither the old one nor the new.

Names are unique in an account and nothing can be renamed. So the new OMI is first registered under a name of ours, with
a mark that says which name it is to have, and seen to be good. Then the old one goes, the final name is registered from
the same snapshots, and the temporary OMI goes. Whoever finds a temporary OMI whose final name nobody has, finishes the
replacement: all that the final OMI needs is on the temporary one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from blocks.errors import ApiError, Conflict, NotFound
from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import Image, ImageCreate
from tasks.mark import Mark
from tasks.outscale.omis import NewOmi, let_in, let_make_volumes, register
from tasks.outscale.run import OutscaleRun
from tasks.outscale.tokens import ARTIFACT, DESCRIPTION_TAG, OWN_TAGS, TAG, values
from tasks.outscale.waits import wait_for_omi
from tasks.step import step

Register = Callable[[ImageCreate, Mark], Awaitable[Image]]
"""Begins an OMI whose description is a mark, or finds it again."""


@step("replace OMI")
async def replace_omi(run: OutscaleRun, old: Image, new: NewOmi, account_id: str, timeout: float) -> Image:
    """Put a new OMI in the place of an old one. The old one's snapshots stay; see `delete_old_snapshots`."""

    async def begin(request: ImageCreate, mark: Mark) -> Image:
        return await register(run, request, account_id, mark)

    name = run.owned_name("omi")
    mark = replace(run.mark, final=new.request.image_name)
    temporary = await begin(new.request.model_copy(update={"image_name": name}), mark)
    temporary = await wait_for_omi(run.client, temporary, timeout)
    run.logger.info("The new OMI is good (%s): it takes the place of %s", temporary.image_id, old.image_id)
    await let_in(run.client, temporary.image_id, new.share.accounts, everybody=new.share.everybody)
    await let_make_volumes(run.client, new.snapshots[0], new.share.of_snapshot)
    if of_snapshots := {**new.tags, **new.snapshot_tags}:
        await run.client.create_tags(new.snapshots, of_snapshots)
    await run.client.create_tags([temporary.image_id], {**new.tags, DESCRIPTION_TAG: new.description})
    with suppress(NotFound):
        await run.client.delete_image(old.image_id)
    temporary = await run.client.image(temporary.image_id)
    final = await finish(run.client, temporary, mark, new.snapshots, begin, timeout)
    with suppress(NotFound):
        await run.client.delete_image(temporary.image_id)
    return final


async def finish(
    client: OutscaleClient, temporary: Image, mark: Mark, snapshots: Sequence[str], begin: Register, timeout: float
) -> Image:
    """Register the final name from a temporary OMI, and pass the commit point. The temporary one is left.

    Args:
        client: The account's view.
        temporary: The temporary OMI, available.
        mark: Its mark.
        snapshots: Ids of the snapshots that the build made for it.
        begin: Begins the final OMI.
        timeout: Seconds until it has to be available.

    Raises:
        EndedBadly: the final OMI failed.
    """
    request = ImageCreate.model_validate(
        {
            "image_name": mark.final,
            "architecture": temporary.architecture or None,
            "root_device_name": temporary.root_device_name,
            "block_device_mappings": temporary.block_device_mappings,
            "boot_modes": temporary.boot_modes or None,
            "tpm_mandatory": temporary.tpm_mandatory or None,
            "product_codes": temporary.product_codes,
        }
    )
    final = await wait_for_omi(client, await begin(request, replace(mark, final=None)), timeout)
    allowed = temporary.permissions_to_launch
    await let_in(client, final.image_id, allowed.account_ids, everybody=allowed.global_permission)
    tags = values(temporary.tags)
    if of_user := {key: value for key, value in tags.items() if key not in OWN_TAGS}:
        await client.create_tags([final.image_id], of_user)
    await client.create_tags([final.image_id, *snapshots], {TAG: ARTIFACT})
    if DESCRIPTION_TAG in tags:
        return await client.update_image(final.image_id, description=tags[DESCRIPTION_TAG])
    return final


@step("delete old snapshots", retries=0)
async def delete_old_snapshots(run: OutscaleRun, old: Image, in_use: Sequence[Image]) -> None:
    """Delete the snapshots of an OMI that was replaced. The new one is made, so that nothing about it is fatal.

    Args:
        run: The run.
        old: The OMI that is gone.
        in_use: OMIs whose snapshots stay. Those that others use, the region does not delete.
    """
    kept = {identifier for image in in_use for identifier in image.snapshot_ids}
    for identifier in old.snapshot_ids:
        if identifier in kept:
            continue
        try:
            await run.client.delete_snapshot(identifier)
        except NotFound:
            continue
        except Conflict as error:
            run.logger.info("The old OMI's snapshot %s stays: something uses it (%s)", identifier, error.why)
        except ApiError as error:
            run.logger.warning("The old OMI's snapshot %s could not be deleted: %s", identifier, error)
        else:
            run.logger.info("Deleted %s, a snapshot of the old OMI", identifier)
