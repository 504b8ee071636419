"""Instances, and what belongs to one."""

from __future__ import annotations

from collections.abc import Callable

from emulators.oxide import errors, external, groups, instances, making, serial, wire
from emulators.oxide.bodies.base import parse
from emulators.oxide.bodies.instances import InstanceCreate, InstanceUpdate
from emulators.oxide.bodies.networks import EphemeralIpCreate
from emulators.oxide.bodies.storage import DiskPath
from emulators.oxide.calls import Call, Operations
from emulators.oxide.records import Disk, Instance

OPERATIONS = Operations()
_operation = OPERATIONS.add


def _view(call: Call) -> Callable[[Instance], wire.Json]:
    cooldown = call.region.times.restart_cooldown
    return lambda instance: wire.instance(instance, cooldown)


@_operation("instance_list", "GET", "/v1/instances")
async def _instance_list(call: Call) -> wire.Json:
    return wire.page(call.region.instances, call.project.id, call.query, _view(call))


@_operation("instance_create", "POST", "/v1/instances", 201)
async def _instance_create(call: Call) -> wire.Json:
    project, body = call.project, parse(InstanceCreate, call.body)
    return _view(call)(await making.create(call.caller, call.power, project, body, call.struck))


@_operation("instance_view", "GET", "/v1/instances/{instance}")
async def _instance_view(call: Call) -> wire.Json:
    return _view(call)(call.instance)


@_operation("instance_update", "PUT", "/v1/instances/{instance}")
async def _instance_update(call: Call) -> wire.Json:
    instance = call.instance
    instances.update(call.caller, instance, parse(InstanceUpdate, call.body))
    return _view(call)(instance)


@_operation("instance_delete", "DELETE", "/v1/instances/{instance}", 204)
async def _instance_delete(call: Call) -> None:
    await instances.delete(call.region, call.power, call.instance)


@_operation("instance_start", "POST", "/v1/instances/{instance}/start", 202)
async def _instance_start(call: Call) -> wire.Json:
    instance = call.instance
    instances.start(call.region, call.power, instance, call.struck)
    return _view(call)(instance)


@_operation("instance_stop", "POST", "/v1/instances/{instance}/stop", 202)
async def _instance_stop(call: Call) -> wire.Json:
    instance = call.instance
    instances.stop(call.region, call.power, instance)
    return _view(call)(instance)


@_operation("instance_reboot", "POST", "/v1/instances/{instance}/reboot", 202)
async def _instance_reboot(call: Call) -> wire.Json:
    instance = call.instance
    instances.reboot(call.power, instance)
    return _view(call)(instance)


@_operation("instance_serial_console", "GET", "/v1/instances/{instance}/serial-console")
async def _serial_console(call: Call) -> wire.Json:
    numbers = {name: call.number(name) for name in ("from_start", "most_recent", "max_bytes")}
    given = {name: number for name, number in numbers.items() if number is not None}
    data, end = serial.history(call.power, call.instance, given)
    return {"data": list(data), "last_byte_offset": end}


@_operation("instance_external_ip_list", "GET", "/v1/instances/{instance}/external-ips")
async def _external_ips(call: Call) -> wire.Json:
    return wire.all_of(external.of_instance(call.region, call.instance))


@_operation("instance_ephemeral_ip_attach", "POST", "/v1/instances/{instance}/external-ips/ephemeral", 202)
async def _ephemeral_attach(call: Call) -> wire.Json:
    instance, body = call.instance, parse(EphemeralIpCreate, call.body)
    given = external.attach_ephemeral(call.caller, instance, body.pool_selector)
    return {"kind": "ephemeral", **given.model_dump()}


@_operation("instance_ephemeral_ip_detach", "DELETE", "/v1/instances/{instance}/external-ips/ephemeral", 204)
async def _ephemeral_detach(call: Call) -> None:
    version = call.query.get("ip_version")
    if version not in {None, "v4", "v6"}:
        raise errors.bad_request(f"unable to parse query string: unknown variant `{version}`, expected `v4` or `v6`")
    external.detach_ephemeral(call.region, call.instance, version)


@_operation("instance_disk_list", "GET", "/v1/instances/{instance}/disks")
async def _instance_disks(call: Call) -> wire.Json:
    found = [call.region.disks.get(disk_id) for disk_id in call.instance.disk_ids]
    return wire.page_of([disk for disk in found if disk], call.query, wire.disk)


@_operation("instance_disk_attach", "POST", "/v1/instances/{instance}/disks/attach", 202)
async def _instance_disk_attach(call: Call) -> wire.Json:
    instance = call.instance
    disk = _disk_of_body(call, instance)
    instances.attach_disk(call.region, instance, disk)
    return wire.disk(disk)


@_operation("instance_disk_detach", "POST", "/v1/instances/{instance}/disks/detach", 202)
async def _instance_disk_detach(call: Call) -> wire.Json:
    instance = call.instance
    disk = _disk_of_body(call, instance)
    instances.detach_disk(call.region, instance, disk)
    return wire.disk(disk)


def _disk_of_body(call: Call, instance: Instance) -> Disk:
    body = parse(DiskPath, call.body)
    return call.caller.find(call.region.disks, "disk", body.disk, instance.project_id)


@_operation("instance_ssh_public_key_list", "GET", "/v1/instances/{instance}/ssh-public-keys")
async def _instance_ssh_keys(call: Call) -> wire.Json:
    found = [call.region.ssh_keys.get(key_id) for key_id in call.instance.ssh_key_ids]
    return wire.page_of([key for key in found if key], call.query, wire.ssh_key)


@_operation("instance_anti_affinity_group_list", "GET", "/v1/instances/{instance}/anti-affinity-groups")
async def _instance_groups(call: Call) -> wire.Json:
    return wire.page_of(groups.of_instance(call.region, call.instance), call.query, wire.anti_affinity_group)
