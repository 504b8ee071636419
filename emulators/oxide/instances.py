"""Instances that are there.

Faults on `instance_start`, and on an `instance_create` that starts:

- `start_fails`: 202, and nothing happens: the instance stays `stopped`.
- `instance_failed`: it goes to `failed`, at once or `seconds` after it runs.
- `never_boots`: it runs and its guest never comes up; `slow_boot` with `seconds`: after so long.
- `behaviour` with an object `behaviour`: told to the machine as it is.
"""

from __future__ import annotations

import asyncio
import shutil

from emulators.oxide import disks, errors, groups, making, quotas
from emulators.oxide.bodies.instances import InstanceUpdate
from emulators.oxide.caller import Caller
from emulators.oxide.power import Power
from emulators.oxide.records import Disk, DiskState, Instance, InstanceState, now
from emulators.oxide.region import OxideRegion, Struck

_UP = {InstanceState.STARTING, InstanceState.RUNNING, InstanceState.REBOOTING}
_DOWN = {InstanceState.STOPPED, InstanceState.FAILED}
_BEING_MADE = "cannot change instance state while it is still being created"


def start(region: OxideRegion, power: Power, instance: Instance, struck: Struck) -> None:
    """Start an instance; nothing happens to one that is up.

    Raises:
        ApiError: 409 while it is stopping, 400 while it is being made, 507 for want of capacity.
    """
    if instance.state in _UP:
        return
    if instance.state is InstanceState.STOPPING:
        raise errors.conflict("instance is in state stopping but must be stopped to be started")
    if instance.state is InstanceState.CREATING:
        raise errors.invalid_request(_BEING_MADE)
    groups.check_start(region, instance)
    quotas.check_start(region, instance)
    if struck.by("start_fails"):
        return
    power.start(instance, struck)


def stop(region: OxideRegion, power: Power, instance: Instance) -> None:
    """Cut an instance's power. A failed one is `stopped` at once; nothing happens to one that is off.

    Raises:
        ApiError: 400 while it is being made.
    """
    match instance.state:
        case InstanceState.STOPPED | InstanceState.STOPPING:
            return
        case InstanceState.CREATING:
            raise errors.invalid_request(_BEING_MADE)
        case InstanceState.FAILED:
            instance.state, instance.time_run_state_updated = InstanceState.STOPPED, now()
            region.instances.save(instance)
        case _:
            power.stop(instance)


def reboot(power: Power, instance: Instance) -> None:
    """Reset a running instance.

    Raises:
        ApiError: 400 in any other state.
    """
    if instance.state is InstanceState.REBOOTING:
        return
    match instance.state:
        case InstanceState.RUNNING:
            power.reboot(instance)
        case InstanceState.CREATING:
            raise errors.invalid_request(_BEING_MADE)
        case InstanceState.STOPPED:
            raise errors.invalid_request("cannot reboot an instance in state stopped with no VMM")
        case _:
            raise errors.invalid_request(f"instance state cannot be changed from {instance.state}")


async def delete(region: OxideRegion, power: Power, instance: Instance) -> None:
    """Delete an instance. Its disks are detached and stay.

    Raises:
        ApiError: 400 unless it is stopped or failed.
    """
    if instance.state not in _DOWN:
        raise errors.invalid_request(f'instance cannot be deleted in state "{instance.state}"')
    making.forget(region, instance, region.interfaces.within(instance.id))
    await power.forget(instance.id)
    workdir = region.directory / "machines" / instance.id
    await asyncio.to_thread(shutil.rmtree, workdir, ignore_errors=True)


def attach_disk(region: OxideRegion, instance: Instance, disk: Disk) -> None:
    """Attach a disk to an instance that is off."""
    if disk.instance_id == instance.id and disk.state is DiskState.ATTACHED:
        return
    if disk.project_id != instance.project_id:
        raise errors.invalid_request("disk does not belong to this project")
    if instance.state not in _DOWN:
        raise errors.invalid_request(f'cannot attach disk to instance in state "{instance.state}"')
    if disk.state is not DiskState.DETACHED:
        raise errors.invalid_request(f'cannot attach disk "{disk.name}": disk is in state "{disk.state}"')
    if len(instance.disk_ids) >= making.MAX_DISKS:
        raise errors.invalid_request(f"cannot attach more than {making.MAX_DISKS} disks to instance")
    instance.disk_ids.append(disk.id)
    region.instances.save(instance)
    disks.settle(region, disk, DiskState.ATTACHED, instance.id)


def detach_disk(region: OxideRegion, instance: Instance, disk: Disk) -> None:
    """Detach a disk from an instance that is off. A boot disk cannot be detached."""
    if disk.instance_id != instance.id:
        raise errors.invalid_request(f'disk "{disk.name}" is not attached to instance "{instance.name}"')
    if disk.id == instance.boot_disk_id:
        raise errors.conflict("boot disk cannot be detached")
    if instance.state not in _DOWN:
        raise errors.invalid_request(f'cannot detach disk from instance in state "{instance.state}"')
    instance.disk_ids.remove(disk.id)
    region.instances.save(instance)
    disks.settle(region, disk, DiskState.DETACHED)


def update(caller: Caller, instance: Instance, body: InstanceUpdate) -> None:
    """Change an instance; size, CPUs and boot disk only while it is off.

    Raises:
        ApiError: a limit, a boot disk that is not attached, or 400 because it is up.
    """
    region = caller.region
    making.check_size(body.ncpus, body.memory)
    if body.enable_jumbo_frames or body.multicast_groups:
        raise errors.invalid_request("neither jumbo frames nor multicast are enabled on this rack")
    boot_disk_id = None
    if body.boot_disk is not None:
        boot_disk_id = caller.find(region.disks, "disk", body.boot_disk, instance.project_id).id
        if boot_disk_id not in instance.disk_ids:
            raise errors.conflict("boot disk must be attached")
    wanted = (body.ncpus, body.memory, body.cpu_platform, boot_disk_id)
    present = (instance.ncpus, instance.memory, instance.cpu_platform, instance.boot_disk_id)
    if wanted != present and instance.state not in {*_DOWN, InstanceState.CREATING}:
        raise errors.conflict("instance must be stopped to be resized or to change its boot disk")
    instance.ncpus, instance.memory, instance.cpu_platform, instance.boot_disk_id = wanted
    instance.auto_restart_policy = body.auto_restart_policy
    instance.time_modified = now()
    region.instances.save(instance)
