"""The temporary volume of a build: made, linked to this VM, unlinked, deleted."""

from __future__ import annotations

from collections.abc import Mapping

from blocks.errors import NotFound
from blocks.outscale.models import Vm, Volume, VolumeCreate
from tasks.outscale.devices import choose_and_link
from tasks.outscale.links import end_link, wait_for_link
from tasks.outscale.run import OutscaleRun
from tasks.outscale.waits import wait_for_volume
from tasks.step import step


@step("create volume")
async def create_volume(run: OutscaleRun, request: VolumeCreate, tags: Mapping[str, str], timeout: float) -> Volume:
    """Make the volume, mark it, and wait until it is available."""
    async with run.creating("volume"):
        volume = await run.client.create_volume(request)
    await run.put_mark(volume.volume_id, tags=tags)
    return await wait_for_volume(run.client, volume.volume_id, timeout)


@step("link volume")
async def link_volume(run: OutscaleRun, volume: Volume, vm: Vm, device_path: str | None) -> str:
    """Choose a device name and begin to link the volume to this VM under it.

    Returns:
        The device name.
    """
    name = await choose_and_link(run, volume, vm.vm_id, device_path)
    run.logger.info("Volume %s is linked as %s", volume.volume_id, name)
    return name


@step("wait for device")
async def wait_for_device(run: OutscaleRun, volume: Volume, device: str, timeout: float) -> str:
    """Wait until the linked volume is there as a block device; its node may have another name."""
    disk = await wait_for_link(run.client, volume.volume_id, device, timeout)
    if disk != device:
        run.logger.info("It is %s on this host", disk)
    return disk


@step("unlink volume")
async def unlink_volume(run: OutscaleRun, volume: Volume, disk: str, timeout: float) -> None:
    """Unlink the volume from this VM, once nothing here uses it, and wait until it is available."""
    await end_link(run.client, volume, [disk], timeout)


@step("delete volume")
async def delete_volume(run: OutscaleRun, volume: Volume) -> None:
    """Delete the volume, whose snapshot is complete. That it is gone is for the teardown to see."""
    try:
        await run.client.delete_volume(volume.volume_id)
    except NotFound:
        return
    run.logger.info("Removed volume %s", volume.volume_id)
