"""Making instances: everything is checked first, then stored, and undone where it cannot be finished.

Faults on `instance_create`:

- `start_fails`: 201, and the instance stays `stopped`, as when its start fails on the rack.
- `disk_faulted`: 500, and its boot disk stays behind as `faulted`.
- those on `instance_start`, which `instances` describes.
"""

from __future__ import annotations

import asyncio

from emulators.oxide import disks, errors, external, groups, interfaces, quotas
from emulators.oxide.bodies.instances import InstanceCreate, decode_user_data
from emulators.oxide.bodies.networks import EphemeralIp, ExternalIp
from emulators.oxide.bodies.storage import AttachedDisk, CreatedDisk, DiskAttachment
from emulators.oxide.caller import Caller
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

MAX_DISKS = 12
_MAX_MEMORY = 1536 * GIB
_MAX_CPUS = 254
_MAX_EXTERNAL_IPS = 32
_MAX_SSH_KEYS = 100
_MAX_GROUPS = 16


def check_size(ncpus: int, memory: int) -> None:
    """Refuse memory that is no whole number of 1 to 1536 GiB, and more than 254 CPUs."""
    if memory < GIB:
        raise errors.invalid_value("size", "memory must be at least 1 GiB")
    if memory % GIB:
        raise errors.invalid_value("size", "memory must be divisible by 1 GiB")
    if memory > _MAX_MEMORY:
        raise errors.invalid_value("size", "memory must be less than or equal to 1536 GiB")
    if ncpus < 1:
        raise errors.invalid_request("cannot have 0 vCPUs")
    if ncpus > _MAX_CPUS:
        raise errors.invalid_request(f"cannot have more than {_MAX_CPUS} vCPUs per instance")


async def create(caller: Caller, power: Power, project: Project, body: InstanceCreate, struck: Struck) -> Instance:
    """Make an instance and its disks. Both are there when the request ends; a start goes on after it.

    A start that fails is not reported: the instance is then `stopped`.
    """
    region, making = caller.region, _Making(caller, project, body)
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
        raise errors.internal()
    for planned in making.plans:
        disks.settle(region, planned.disk, DiskState.ATTACHED, instance.id)
    instance.state, instance.time_run_state_updated = InstanceState.STOPPED, now()
    instance.behaviour |= struck.behaviour()
    region.instances.save(instance)
    if body.start and not struck.by("start_fails"):
        try:
            groups.check_start(region, instance)
            quotas.check_start(region, instance)
        except errors.ApiError:
            return instance
        power.start(instance, struck)
    return instance


class _Making:
    """An instance that is being made: everything is checked first, then stored, and can be undone."""

    def __init__(self, caller: Caller, project: Project, body: InstanceCreate) -> None:
        self.caller = caller
        self.region = region = caller.region
        check_size(body.ncpus, body.memory)
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
            ssh_key_ids=_ssh_keys(caller, body.ssh_public_keys),
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
            caller.find(region.groups, "anti-affinity-group", group, project.id) for group in body.anti_affinity_groups
        ]
        if len(self.groups) > _MAX_GROUPS:
            raise errors.invalid_request(f"An instance may not be in more than {_MAX_GROUPS} anti-affinity groups")
        for group in self.groups:
            groups.check_room(group)
        if body.multicast_groups:
            raise errors.invalid_request("multicast is not enabled on this rack")
        if body.enable_jumbo_frames:
            raise errors.invalid_request("jumbo frames are not enabled on this rack")
        self._plan_disks(project, body.boot_disk, body.disks)
        created = sum(planned.disk.size for planned in self.plans)
        quotas.check_storage(region, project.silo_id, created)
        self.interfaces = interfaces.plan(caller, project, self.instance.id, body.network_interfaces)
        try:
            self._plan_addresses(project, body.external_ips)
        except errors.ApiError:
            self.undo()
            raise

    def _plan_disks(self, project: Project, boot: DiskAttachment | None, others: list[DiskAttachment]) -> None:
        wanted = [*([boot] if boot else []), *others]
        if len(wanted) > MAX_DISKS:
            raise errors.invalid_request(f"cannot attach more than {MAX_DISKS} disks to instance")
        names = [attachment.name for attachment in wanted]
        for name in names:
            if names.count(name) > 1:
                raise errors.already_exists("disk", name)
        for attachment in wanted:
            match attachment:
                case CreatedDisk():
                    plan = disks.plan(self.caller, project, attachment, instance_id=self.instance.id)
                    self.plans.append(plan)
                    disk = plan.disk
                case AttachedDisk(name=name):
                    disk = self.caller.find(self.region.disks, "disk", name, project.id)
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
        if sum(isinstance(ip, EphemeralIp) for ip in wanted) > len(("v4", "v6")):
            raise _too_many_ephemeral()
        for ip in wanted:
            if isinstance(ip, EphemeralIp):
                given = external.take(self.caller, ip.pool_selector)
                taken = {external.version_of(other.ip) for other in self.instance.ephemeral_ips}
                self.instance.ephemeral_ips.append(given)
                if external.version_of(given.ip) in taken:
                    raise _too_many_ephemeral()
            else:
                floating = self.caller.find(self.region.floating_ips, "floating-ip", ip.floating_ip, project.id)
                if floating.instance_id is not None or floating in self.floating:
                    raise errors.invalid_request("floating IP cannot be attached to one instance while in use")
                self.floating.append(floating)
        addresses = [ip.ip for ip in self.instance.ephemeral_ips] + [ip.ip for ip in self.floating]
        versions = {external.version_of(address) for address in addresses}
        for version in versions:
            if not any(getattr(nic, version) for nic in self.interfaces):
                raise errors.invalid_request(f"instance has no interface with an IP{version} address")

    def store(self) -> None:
        """Make it visible, as `creating`."""
        region, instance = self.region, self.instance
        instance.disk_ids.sort(key=lambda disk_id: disk_id != instance.boot_disk_id)
        region.instances.save(instance)
        for nic in self.interfaces:
            region.interfaces.save(nic)
        for floating in self.floating:
            external.hold_floating(region, floating, instance.id)
        for disk in self.attached:
            disks.settle(region, disk, DiskState.ATTACHED, instance.id)
        for planned in self.plans:
            region.disks.save(planned.disk)
        for group in self.groups:
            groups.add(region, group, instance)

    def undo(self) -> None:
        """Remove all but the disks that were made."""
        forget(self.region, self.instance, self.interfaces)


def _too_many_ephemeral() -> errors.ApiError:
    return errors.invalid_request("An instance may not have more than 1 ephemeral IP address")


def _ssh_keys(caller: Caller, wanted: list[str] | None) -> list[str]:
    if wanted is None:
        return [key.id for key in caller.region.ssh_keys.within(caller.user.id)]
    if len(wanted) > _MAX_SSH_KEYS:
        raise errors.invalid_request(f"cannot attach more than {_MAX_SSH_KEYS} ssh keys to the instance")
    return [caller.find(caller.region.ssh_keys, "ssh-key", key, caller.user.id).id for key in wanted]


def forget(region: OxideRegion, instance: Instance, nics: list[NetworkInterface]) -> None:
    """Remove an instance and what only it had. Its disks are detached."""
    interfaces.forget(region, nics)
    for given in instance.ephemeral_ips:
        external.release(region, given)
    for floating in external.floating_of(region, instance):
        external.hold_floating(region, floating, None)
    for disk_id in instance.disk_ids:
        disk = region.disks.get(disk_id)
        if disk is not None and disk.instance_id == instance.id and disk.state is not DiskState.CREATING:
            disks.settle(region, disk, DiskState.DETACHED)
    for group in groups.of_instance(region, instance):
        groups.remove(region, group, instance)
    region.instances.delete(instance.id)
