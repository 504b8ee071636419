"""Instances.

Faults on `instance_create` and `instance_start`:

- `capacity`: 507, as when the rack or the quota is full.
- `start_fails` (create only): 201, and the instance stays `stopped`, as when its start fails on the rack.
- `instance_failed`: it starts and goes to `failed`.
- `never_boots`: it runs and its guest never comes up; `slow_boot` with `seconds`: after so long.
- `behaviour` with an object `behaviour`: told to the machine as it is.
"""

from __future__ import annotations

import asyncio
import shutil

from emulators.oxide import disks, errors, network
from emulators.oxide.bodies import (
    AttachedDisk,
    CreatedDisk,
    DiskAttachment,
    EphemeralIp,
    ExternalIp,
    InstanceCreate,
    decode_user_data,
)
from emulators.oxide.power import Power
from emulators.oxide.records import (
    Disk,
    DiskState,
    FloatingIp,
    Instance,
    InstanceState,
    NetworkInterface,
    Project,
    new_id,
    now,
)
from emulators.oxide.region import OxideRegion, Struck
from emulators.region.sources import GIB

_MAX_MEMORY = 1536 * GIB
_MAX_CPUS = 254
_MAX_DISKS = 12
_MAX_EXTERNAL_IPS = 32
_MAX_SSH_KEYS = 100

_UP = {InstanceState.STARTING, InstanceState.RUNNING, InstanceState.REBOOTING}
_DOWN = {InstanceState.STOPPED, InstanceState.FAILED}


def check_size(body: InstanceCreate) -> None:
    """Refuse memory that is no whole number of 1 to 1536 GiB, and more than 254 CPUs."""
    if body.memory < GIB:
        raise errors.invalid_value("size", "memory must be at least 1 GiB")
    if body.memory % GIB:
        raise errors.invalid_value("size", "memory must be divisible by 1 GiB")
    if body.memory > _MAX_MEMORY:
        raise errors.invalid_value("size", "memory must be less than or equal to 1536 GiB")
    if body.ncpus < 1:
        raise errors.invalid_request("cannot have 0 vCPUs")
    if body.ncpus > _MAX_CPUS:
        raise errors.invalid_request(f"cannot have more than {_MAX_CPUS} vCPUs per instance")


async def create(region: OxideRegion, power: Power, project: Project, body: InstanceCreate, struck: Struck) -> Instance:
    """Make an instance and its disks. Both are there when the request ends; a start goes on after it.

    A start that fails is not reported: the instance is then `stopped`.
    """
    making = _Making(region, project, body)
    if struck.by("capacity"):
        making.undo()
        raise errors.no_capacity(
            "Storage Limit Exceeded: Not enough available storage to complete this request. "
            "Either remove unneeded disks and snapshots to free up resources, "
            "or contact the rack operator to request a storage capacity increase."
        )
    instance = making.instance
    making.store()
    try:
        await asyncio.sleep(region.times.create)
        async with asyncio.TaskGroup() as group:
            for planned in making.plans:
                group.create_task(disks.fill(region, planned))
    except BaseException as error:
        for planned in making.plans:
            await disks.discard(region, planned.disk)
        making.undo()
        if isinstance(error, ExceptionGroup):
            raise error.exceptions[0] from None
        raise
    if struck.by("disk_faulted") and making.plans:
        faulted = making.plans[0].disk
        for planned in making.plans[1:]:
            await disks.discard(region, planned.disk)
        making.undo()
        disks.settle(region, faulted, DiskState.FAULTED)
        raise errors.ApiError(500, "Internal", "Internal Server Error")
    for planned in making.plans:
        disks.settle(region, planned.disk, DiskState.ATTACHED, instance.id)
    instance.state, instance.time_run_state_updated = InstanceState.STOPPED, now()
    region.instances.save(instance)
    if body.start and not struck.by("start_fails"):
        power.start(instance, struck)
    else:
        instance.behaviour |= struck.behaviour()
        region.instances.save(instance)
    return instance


class _Making:
    """An instance that is being made: everything is checked first, then stored, and can be undone."""

    def __init__(self, region: OxideRegion, project: Project, body: InstanceCreate) -> None:
        self.region = region
        check_size(body)
        decode_user_data(body.user_data)
        if region.instances.named(project.id, body.name):
            raise errors.already_exists("instance", body.name)
        self.instance = Instance(
            id=new_id(),
            name=body.name,
            description=body.description,
            project_id=project.id,
            hostname=body.hostname,
            memory=body.memory,
            ncpus=body.ncpus,
            ssh_key_ids=_ssh_keys(region, body.ssh_public_keys),
            user_data=body.user_data,
            auto_restart_policy=body.auto_restart_policy,
            cpu_platform=body.cpu_platform,
            enable_jumbo_frames=body.enable_jumbo_frames,
        )
        self.plans: list[disks.Plan] = []
        self.attached: list[Disk] = []
        self.floating: list[FloatingIp] = []
        self.interfaces: list[NetworkInterface] = []
        self.groups = [
            region.find(region.groups, "anti-affinity-group", group, project.id) for group in body.anti_affinity_groups
        ]
        if body.enable_jumbo_frames:
            raise errors.invalid_request("jumbo frames are not enabled on this rack")
        self._plan_disks(project, body.boot_disk, body.disks)
        self.interfaces = network.plan_interfaces(region, project, self.instance.id, body.network_interfaces)
        try:
            self._plan_addresses(project, body.external_ips)
        except errors.ApiError:
            self.undo()
            raise

    def _plan_disks(self, project: Project, boot: DiskAttachment | None, others: list[DiskAttachment]) -> None:
        wanted = [*([boot] if boot else []), *others]
        if len(wanted) > _MAX_DISKS:
            raise errors.invalid_request(f"cannot attach more than {_MAX_DISKS} disks to instance")
        names = [attachment.name for attachment in wanted]
        for name in names:
            if names.count(name) > 1:
                raise errors.already_exists("disk", name)
        for attachment in wanted:
            match attachment:
                case CreatedDisk():
                    plan = disks.plan(self.region, project, attachment, instance_id=self.instance.id)
                    self.plans.append(plan)
                    disk = plan.disk
                case AttachedDisk(name=name):
                    disk = self.region.find(self.region.disks, "disk", name, project.id)
                    if disk.state is not DiskState.DETACHED:
                        raise errors.invalid_request(
                            f'cannot attach disk "{disk.name}": disk is in state "{disk.state}"'
                        )
                    self.attached.append(disk)
            self.instance.disk_ids.append(disk.id)
            if attachment is boot:
                self.instance.boot_disk_id = disk.id

    def _plan_addresses(self, project: Project, wanted: list[ExternalIp]) -> None:
        if wanted and not self.interfaces:
            raise errors.invalid_request("An instance without network interfaces cannot have external IP addresses")
        if len(wanted) > _MAX_EXTERNAL_IPS:
            raise errors.invalid_request(
                f"An instance may not have more than {_MAX_EXTERNAL_IPS} external IP addresses"
            )
        for ip in wanted:
            if isinstance(ip, EphemeralIp):
                if self.instance.ephemeral_ip:
                    raise errors.invalid_request("An instance may not have more than 1 ephemeral IP address")
                network.check_pool(self.region, ip.pool_selector)
                self.instance.ephemeral_ip = network.take_address(self.region)
            else:
                floating = self.region.find(self.region.floating_ips, "floating-ip", ip.floating_ip, project.id)
                if floating.instance_id is not None:
                    raise errors.invalid_request("floating IP cannot be attached to one instance while in use")
                self.floating.append(floating)

    def store(self) -> None:
        """Make it visible, as `creating`."""
        region, instance = self.region, self.instance
        region.instances.save(instance)
        for nic in self.interfaces:
            region.interfaces.save(nic)
        for floating in self.floating:
            network.hold_floating_ip(region, floating, instance.id)
        for disk in self.attached:
            disks.settle(region, disk, DiskState.ATTACHED, instance.id)
        for planned in self.plans:
            region.disks.save(planned.disk)
        for group in self.groups:
            group.members.append(instance.id)
            region.groups.save(group)

    def undo(self) -> None:
        """Remove all but the disks that were made."""
        _forget(self.region, self.instance, self.interfaces)


def _ssh_keys(region: OxideRegion, wanted: list[str] | None) -> list[str]:
    if wanted is None:
        return [key.id for key in region.ssh_keys]
    if len(wanted) > _MAX_SSH_KEYS:
        raise errors.invalid_request(f"cannot attach more than {_MAX_SSH_KEYS} ssh keys to the instance")
    return [region.find(region.ssh_keys, "ssh-key", key).id for key in wanted]


def _forget(region: OxideRegion, instance: Instance, interfaces: list[NetworkInterface]) -> None:
    network.forget_interfaces(region, interfaces)
    if instance.ephemeral_ip:
        region.addresses.release(instance.ephemeral_ip)
    for floating in region.floating_ips.within(instance.project_id):
        if floating.instance_id == instance.id:
            network.hold_floating_ip(region, floating, None)
    for disk_id in instance.disk_ids:
        disk = region.disks.get(disk_id)
        if disk is not None and disk.state is DiskState.ATTACHED:
            disks.settle(region, disk, DiskState.DETACHED)
    for group in region.groups.within(instance.project_id):
        if instance.id in group.members:
            group.members.remove(instance.id)
            region.groups.save(group)
    region.instances.delete(instance.id)


def start(power: Power, instance: Instance, struck: Struck) -> None:
    """Start an instance; nothing happens to one that is up.

    Raises:
        ApiError: 409 while it is stopping, 400 while it is being made, 507 for want of capacity.
    """
    if instance.state in _UP:
        return
    if instance.state is InstanceState.STOPPING:
        raise errors.conflict("instance is still stopping; wait for it to stop before starting it")
    if instance.state is InstanceState.CREATING:
        raise errors.invalid_request(f'cannot start instance in state "{instance.state}"')
    if struck.by("capacity"):
        raise errors.no_capacity(
            "No sleds can fit the requested instance: "
            f"{instance.ncpus} vCPUs and {instance.memory // GIB} GiB of memory"
        )
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
            raise errors.invalid_request(f'cannot stop instance in state "{instance.state}"')
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
    if instance.state is not InstanceState.RUNNING:
        raise errors.invalid_request(f'instance cannot be rebooted in state "{instance.state}"')
    power.reboot(instance)


async def delete(region: OxideRegion, power: Power, instance: Instance) -> None:
    """Delete an instance. Its disks are detached and stay.

    Raises:
        ApiError: 400 unless it is stopped or failed.
    """
    if instance.state not in _DOWN:
        raise errors.invalid_request(f'instance cannot be deleted in state "{instance.state}"')
    _forget(region, instance, region.interfaces.within(instance.id))
    await power.forget(instance.id)
    workdir = region.directory / "machines" / instance.id
    await asyncio.to_thread(shutil.rmtree, workdir, ignore_errors=True)


def attach_disk(region: OxideRegion, instance: Instance, disk: Disk) -> None:
    """Attach a disk to an instance that is off."""
    if disk.instance_id == instance.id:
        return
    if instance.state not in _DOWN:
        raise errors.invalid_request(f'cannot attach disk to instance in state "{instance.state}"')
    if disk.state is not DiskState.DETACHED:
        raise errors.invalid_request(f'cannot attach disk "{disk.name}": disk is in state "{disk.state}"')
    if len(instance.disk_ids) >= _MAX_DISKS:
        raise errors.invalid_request(f"cannot attach more than {_MAX_DISKS} disks to instance")
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


def serial_console(power: Power, instance: Instance, query: dict[str, int]) -> tuple[bytes, int]:
    """Read the serial console: the bytes, and the offset right after them.

    Args:
        query: `from_start` or `most_recent`, and perhaps `max_bytes`.

    Raises:
        ApiError: 400 unless it runs, or if the range is not said in one way.
    """
    if instance.state not in {InstanceState.RUNNING, InstanceState.REBOOTING}:
        raise errors.invalid_request(f'cannot connect to serial console of instance in state "{instance.state}"')
    if ("from_start" in query) == ("most_recent" in query):
        raise errors.invalid_request('Exactly one of "from_start" or "most_recent" must be specified.')
    console = power.machine(instance.id).serial
    total = console.total
    first = query["from_start"] if "from_start" in query else max(0, total - query["most_recent"])
    first = min(first, total)
    data = console.read(first, min(query.get("max_bytes", _SERIAL_DEFAULT), total - first))
    return data, first + len(data)


_SERIAL_DEFAULT = 16 * 1024


async def settle(region: OxideRegion, power: Power) -> None:
    """Bring what was under way when the region ended to an end, as the rack's own recovery does.

    What was half made goes. What ran is `failed`, and starts again unless its policy is `never`.
    """
    for disk in region.disks:
        if disk.state is DiskState.CREATING:
            await disks.discard(region, disk)
    for snapshot in region.snapshots:
        if snapshot.state == "creating":
            await disks.discard(region, snapshot)
    for instance in region.instances:
        match instance.state:
            case InstanceState.CREATING:
                whole = all(region.disks.get(disk_id) for disk_id in instance.disk_ids)
                if not whole:
                    _forget(region, instance, region.interfaces.within(instance.id))
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
