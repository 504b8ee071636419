"""What a region does at its start with what was under way when it ended."""

from __future__ import annotations

from emulators.oxide import disks, making
from emulators.oxide.power import Power
from emulators.oxide.records import DiskState, Instance, InstanceState, now
from emulators.oxide.region import OxideRegion


async def settle(region: OxideRegion, power: Power) -> None:
    """Bring what was under way when the region ended to an end, as the rack's own recovery does.

    What was half made goes. What ran is `failed`, and starts again unless its policy is `never`.
    """
    for disk in region.disks:
        if disk.state is DiskState.CREATING:
            await disks.discard(region, disk)
        elif disk.state is DiskState.FINALIZING:
            disks.settle(region, disk, DiskState.IMPORT_READY)
    for snapshot in region.snapshots:
        if snapshot.state == "creating":
            await disks.discard(region, snapshot)
    for instance in region.instances:
        match instance.state:
            case InstanceState.CREATING:
                whole = all(region.disks.get(disk_id) for disk_id in instance.disk_ids)
                if not whole:
                    making.forget(region, instance, region.interfaces.within(instance.id))
                    continue
                for disk_id in instance.disk_ids:
                    if made := region.disks.get(disk_id):
                        disks.settle(region, made, DiskState.ATTACHED, instance.id)
                _settled(region, instance, InstanceState.STOPPED)
            case InstanceState.STOPPING:
                _settled(region, instance, InstanceState.STOPPED)
            case InstanceState.STARTING | InstanceState.RUNNING | InstanceState.REBOOTING:
                if instance.auto_restart_policy == "never":
                    _settled(region, instance, InstanceState.FAILED)
                else:
                    power.start(instance)


def _settled(region: OxideRegion, instance: Instance, state: InstanceState) -> None:
    instance.state, instance.time_run_state_updated = state, now()
    region.instances.save(instance)
