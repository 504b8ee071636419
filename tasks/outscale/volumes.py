"""The temporary volume of a build: made, linked to this VM, unlinked."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from blocks.errors import Conflict, EndedBadly, WaitExpired
from blocks.outscale.models import Vm, Volume, VolumeCreate
from blocks.settings import settings
from tasks.chroot.device import names_of, wait_for_node
from tasks.outscale.ground import unlink
from tasks.outscale.run import OutscaleRun
from tasks.step import step
from tasks.waiting import poll

_LETTERS = "fghijklmnopqrstuvwxyzbcde"
_LOCK_PAUSE = 0.05


@step("create volume")
async def create_volume(run: OutscaleRun, request: VolumeCreate, tags: dict[str, str]) -> Volume:
    """Make the volume, mark it, and wait until it is available."""
    async with run.creating("volume"):
        volume = await run.client.create_volume(request)
    await run.put_mark(volume.volume_id)
    if tags:
        await run.client.create_tags([volume.volume_id], tags)
    return await _wait_for_state(run, volume.volume_id, "available", settings().start_timeout)


@step("link volume")
async def link_volume(run: OutscaleRun, volume: Volume, vm: Vm, device_path: str | None) -> str:
    """Choose a device name, link the volume to this VM under it, and wait until it is attached.

    The name is chosen and the link requested under a lock of this host, so that builds side by side do not choose the
    same one; it is not held while the link takes its time. A name that the cloud refuses all the same is passed over.

    Returns:
        The device name.
    """
    linked = await run.client.volume(volume.volume_id)
    if linked.linked_volumes:
        name = linked.linked_volumes[0].device_name  # an earlier try, whose reply was lost
    else:
        async with _host_lock():
            name = await _link(run, volume, vm, device_path)
    await _wait_for_state(run, volume.volume_id, "in-use", settings().start_timeout)
    run.logger.info("Volume %s is linked as %s", volume.volume_id, name)
    return name


async def _link(run: OutscaleRun, volume: Volume, vm: Vm, device_path: str | None) -> str:
    current = await run.client.vm(vm.vm_id)
    used = {mapping.device_name for mapping in current.block_device_mappings}
    candidates = [device_path] if device_path else [f"/dev/xvd{letter}" for letter in _LETTERS]
    refused = ""
    for name in candidates:
        if name in used or any(map(os.path.lexists, names_of(name))):
            refused = refused or "taken on the VM"
            continue
        try:
            await run.client.link_volume(volume.volume_id, vm.vm_id, name)
        except Conflict as error:
            refused = str(error)
        else:
            return name
    raise WaitExpired(
        "no device name is free",
        resource=f"VM {vm.vm_id}",
        why=f"tried {', '.join(candidates)}; {refused}",
        hint="Wait until other builds on this VM are through, or unlink volumes that it no longer needs.",
    )


@asynccontextmanager
async def _host_lock() -> AsyncIterator[None]:
    """A lock that all builds of this host share; waiting for it can be cancelled, and it dies with its process."""
    directory = settings().state_dir.expanduser()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "devices.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_PAUSE)
        yield
    finally:
        os.close(descriptor)


@step("wait for device")
async def wait_for_device(_run: OutscaleRun, device: str) -> str:
    """Wait until the linked volume is there as a block device; its node may have another name."""
    return await wait_for_node(device, settings().start_timeout)


@step("unlink volume")
async def unlink_volume(run: OutscaleRun, volume: Volume) -> None:
    """Unlink the volume from this VM, once nothing here uses it, and wait until it is available."""
    await unlink(run.client, await run.client.volume(volume.volume_id))
    await _wait_for_state(run, volume.volume_id, "available", settings().stop_timeout)


async def _wait_for_state(run: OutscaleRun, volume_id: str, wanted: str, timeout: float) -> Volume:
    def done(volume: Volume) -> bool:
        if volume.state in ("error", "deleting") and volume.state != wanted:
            raise EndedBadly(
                f"the volume is in state {volume.state}",
                resource=f"volume {volume_id}",
                hint="Run the build again; if it repeats, ask OUTSCALE's support with the volume's id.",
            )
        attached = all(link.state == "attached" for link in volume.linked_volumes)
        return volume.state == wanted and (wanted != "in-use" or attached)

    return await poll(
        lambda: run.client.volume(volume_id),
        done,
        what=wanted,
        resource=f"volume {volume_id}",
        timeout=timeout,
        describe=lambda volume: volume.state,
    )
