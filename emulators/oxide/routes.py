"""The operations of the API, by the ids that the API document gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emulators.oxide import bodies, disks, errors, images, instances, network, projects, wire
from emulators.oxide.app import Call, Operation
from emulators.oxide.records import (
    AntiAffinityGroup,
    Disk,
    FloatingIp,
    Instance,
    NetworkInterface,
    Snapshot,
    SshKey,
    Vpc,
    new_id,
)
from emulators.region.sources import GIB

OPERATIONS: list[Operation] = []

_Handler = Callable[[Call], Any]


def _operation(
    operation_id: str, method: str, path: str, status: int = 200, **more: Any
) -> Callable[[_Handler], _Handler]:
    def register(handler: _Handler) -> _Handler:
        OPERATIONS.append(Operation(operation_id, method, path, handler, status, **more))
        return handler

    return register


@_operation("ping", "GET", "/v1/ping", needs_token=False)
async def _ping(_: Call) -> wire.Json:
    return {"status": "ok"}


# The user, and the keys of the user


@_operation("current_user_view", "GET", "/v1/me")
async def _me(call: Call) -> wire.Json:
    identity = call.region.identity
    return {
        "id": identity.user_id,
        "display_name": "baker",
        "silo_id": identity.silo_id,
        "silo_name": "box",
        "silo_admin": True,
        "fleet_viewer": False,
        "time_created": identity.time_created.isoformat(),
        "time_modified": identity.time_created.isoformat(),
    }


def _ssh_key(call: Call) -> SshKey:
    return call.region.find(call.region.ssh_keys, "ssh-key", call.path["ssh_key"])


def _ssh_key_view(call: Call) -> Callable[[SshKey], wire.Json]:
    return lambda key: wire.ssh_key(key, call.region.identity.user_id)


@_operation("current_user_ssh_key_list", "GET", "/v1/me/ssh-keys")
async def _ssh_key_list(call: Call) -> wire.Json:
    return wire.page(call.region.ssh_keys, "", call.query, _ssh_key_view(call))


@_operation("current_user_ssh_key_create", "POST", "/v1/me/ssh-keys", 201)
async def _ssh_key_create(call: Call) -> wire.Json:
    body = bodies.parse(bodies.SshKeyCreate, call.body)
    if call.region.ssh_keys.named("", body.name):
        raise errors.already_exists("ssh-key", body.name)
    key = SshKey(id=new_id(), name=body.name, description=body.description, public_key=body.public_key)
    call.region.ssh_keys.save(key)
    return _ssh_key_view(call)(key)


@_operation("current_user_ssh_key_view", "GET", "/v1/me/ssh-keys/{ssh_key}")
async def _ssh_key_get(call: Call) -> wire.Json:
    return _ssh_key_view(call)(_ssh_key(call))


@_operation("current_user_ssh_key_delete", "DELETE", "/v1/me/ssh-keys/{ssh_key}", 204)
async def _ssh_key_delete(call: Call) -> None:
    call.region.ssh_keys.delete(_ssh_key(call).id)


# Projects and what the operator gives


@_operation("project_list", "GET", "/v1/projects")
async def _project_list(call: Call) -> wire.Json:
    return wire.page(call.region.projects, "", call.query, wire.project)


@_operation("project_create", "POST", "/v1/projects", 201)
async def _project_create(call: Call) -> wire.Json:
    return wire.project(projects.create(call.region, bodies.parse(bodies.ProjectCreate, call.body)))


@_operation("project_view", "GET", "/v1/projects/{project}")
async def _project_view(call: Call) -> wire.Json:
    return wire.project(call.region.project(call.path["project"]))


@_operation("project_delete", "DELETE", "/v1/projects/{project}", 204)
async def _project_delete(call: Call) -> None:
    projects.delete(call.region, call.region.project(call.path["project"]))


@_operation("utilization_view", "GET", "/v1/utilization")
async def _utilization(call: Call) -> wire.Json:
    up = [i for i in call.region.instances if i.state in {"starting", "running", "rebooting", "stopping"}]
    stored = sum(disk.size for disk in call.region.disks) + sum(s.size for s in call.region.snapshots)
    return {
        "capacity": {"cpus": 4096, "memory": 16384 * GIB, "storage": 1 << 50},
        "provisioned": {
            "cpus": sum(i.ncpus for i in up),
            "memory": sum(i.memory for i in up),
            "storage": stored,
        },
    }


@_operation("ip_pool_list", "GET", "/v1/ip-pools")
async def _ip_pool_list(call: Call) -> wire.Json:
    pool = call.region.pool_view()
    if call.query.get("page_token"):
        return wire.all_of([])
    return {"items": [pool], "next_page": "end"}


@_operation("ip_pool_view", "GET", "/v1/ip-pools/{pool}")
async def _ip_pool_view(call: Call) -> wire.Json:
    pool, wanted = call.region.pool_view(), call.path["pool"]
    if wanted not in {pool["id"], pool["name"]}:
        raise errors.not_found("ip-pool", wanted, by_id=bodies.is_uuid(wanted))
    return pool


# Networks


def _vpc(call: Call, name_or_id: str | None) -> Vpc:
    if name_or_id is None:
        raise errors.bad_request("unable to parse query string: missing field `vpc`")
    return call.region.select(call.region.vpcs, "vpc", name_or_id, call.named_project)


@_operation("vpc_list", "GET", "/v1/vpcs")
async def _vpc_list(call: Call) -> wire.Json:
    return wire.page(call.region.vpcs, call.project.id, call.query, wire.vpc)


@_operation("vpc_view", "GET", "/v1/vpcs/{vpc}")
async def _vpc_view(call: Call) -> wire.Json:
    return wire.vpc(_vpc(call, call.path["vpc"]))


@_operation("vpc_subnet_list", "GET", "/v1/vpc-subnets")
async def _vpc_subnet_list(call: Call) -> wire.Json:
    vpc = _vpc(call, call.query.get("vpc"))
    return wire.page(call.region.vpc_subnets, vpc.id, call.query, wire.vpc_subnet)


@_operation("vpc_subnet_view", "GET", "/v1/vpc-subnets/{subnet}")
async def _vpc_subnet_view(call: Call) -> wire.Json:
    subnet, subnets = call.path["subnet"], call.region.vpc_subnets
    if bodies.is_uuid(subnet):
        return wire.vpc_subnet(call.region.find(subnets, "vpc-subnet", subnet))
    return wire.vpc_subnet(call.region.find(subnets, "vpc-subnet", subnet, _vpc(call, call.query.get("vpc")).id))


def _floating_ip(call: Call) -> FloatingIp:
    return call.region.select(call.region.floating_ips, "floating-ip", call.path["floating_ip"], call.named_project)


def _floating_ip_view(call: Call) -> Callable[[FloatingIp], wire.Json]:
    return lambda floating: wire.floating_ip(floating, call.region.identity.pool_id)


@_operation("floating_ip_list", "GET", "/v1/floating-ips")
async def _floating_ip_list(call: Call) -> wire.Json:
    return wire.page(call.region.floating_ips, call.project.id, call.query, _floating_ip_view(call))


@_operation("floating_ip_create", "POST", "/v1/floating-ips", 201)
async def _floating_ip_create(call: Call) -> wire.Json:
    body = bodies.parse(bodies.FloatingIpCreate, call.body)
    return _floating_ip_view(call)(network.create_floating_ip(call.region, call.project, body))


@_operation("floating_ip_view", "GET", "/v1/floating-ips/{floating_ip}")
async def _floating_ip_get(call: Call) -> wire.Json:
    return _floating_ip_view(call)(_floating_ip(call))


@_operation("floating_ip_delete", "DELETE", "/v1/floating-ips/{floating_ip}", 204)
async def _floating_ip_delete(call: Call) -> None:
    network.delete_floating_ip(call.region, _floating_ip(call))


@_operation("floating_ip_attach", "POST", "/v1/floating-ips/{floating_ip}/attach", 202)
async def _floating_ip_attach(call: Call) -> wire.Json:
    floating = _floating_ip(call)
    body = bodies.parse(bodies.FloatingIpAttach, call.body)
    instance = call.region.find(call.region.instances, "instance", body.parent, floating.project_id)
    if floating.instance_id not in {None, instance.id}:
        raise errors.invalid_request("floating IP cannot be attached to one instance while in use")
    network.hold_floating_ip(call.region, floating, instance.id)
    return _floating_ip_view(call)(floating)


@_operation("floating_ip_detach", "POST", "/v1/floating-ips/{floating_ip}/detach", 202)
async def _floating_ip_detach(call: Call) -> wire.Json:
    floating = _floating_ip(call)
    if floating.instance_id is None:
        raise errors.invalid_request("floating IP is not attached to an instance")
    network.hold_floating_ip(call.region, floating, None)
    return _floating_ip_view(call)(floating)


@_operation("instance_network_interface_list", "GET", "/v1/network-interfaces")
async def _interface_list(call: Call) -> wire.Json:
    instance = call.query.get("instance")
    if instance is None:
        raise errors.bad_request("unable to parse query string: missing field `instance`")
    owner = call.region.select(call.region.instances, "instance", instance, call.named_project)
    return wire.page(call.region.interfaces, owner.id, call.query, wire.network_interface)


@_operation("instance_network_interface_view", "GET", "/v1/network-interfaces/{interface}")
async def _interface_view(call: Call) -> wire.Json:
    interface, found = call.path["interface"], call.region.interfaces
    scope = ""
    if not bodies.is_uuid(interface):
        owner = call.query.get("instance", "")
        scope = call.region.select(call.region.instances, "instance", owner, call.named_project).id
    nic: NetworkInterface = call.region.find(found, "instance-network-interface", interface, scope)
    return wire.network_interface(nic)


# Images


@_operation("image_list", "GET", "/v1/images")
async def _image_list(call: Call) -> wire.Json:
    scope = call.project.id if call.named_project is not None else ""
    return wire.page(call.region.images, scope, call.query, wire.image)


@_operation("image_create", "POST", "/v1/images", 201)
async def _image_create(call: Call) -> wire.Json:
    project = call.project if call.named_project is not None else None
    return wire.image(await images.create(call.region, project, bodies.parse(bodies.ImageCreate, call.body)))


@_operation("image_view", "GET", "/v1/images/{image}")
async def _image_view(call: Call) -> wire.Json:
    return wire.image(images.select(call.region, call.path["image"], call.named_project))


@_operation("image_delete", "DELETE", "/v1/images/{image}", 204)
async def _image_delete(call: Call) -> None:
    await images.delete(call.region, images.select(call.region, call.path["image"], call.named_project))


@_operation("image_promote", "POST", "/v1/images/{image}/promote", 202)
async def _image_promote(call: Call) -> wire.Json:
    image = images.select(call.region, call.path["image"], call.named_project)
    images.promote(call.region, image)
    return wire.image(image)


@_operation("image_demote", "POST", "/v1/images/{image}/demote", 202)
async def _image_demote(call: Call) -> wire.Json:
    # Here alone `project` says where the image goes, so it stands beside an id too.
    project = call.project
    image = images.select(call.region, call.path["image"], None)
    images.demote(call.region, image, project)
    return wire.image(image)


# Disks and snapshots


def _disk(call: Call) -> Disk:
    return call.region.select(call.region.disks, "disk", call.path["disk"], call.named_project)


@_operation("disk_list", "GET", "/v1/disks")
async def _disk_list(call: Call) -> wire.Json:
    return wire.page(call.region.disks, call.project.id, call.query, wire.disk)


@_operation("disk_create", "POST", "/v1/disks", 201)
async def _disk_create(call: Call) -> wire.Json:
    project, body = call.project, bodies.parse(bodies.DiskCreate, call.body)
    return wire.disk(await disks.create(call.region, project, body, call.struck))


@_operation("disk_view", "GET", "/v1/disks/{disk}")
async def _disk_view(call: Call) -> wire.Json:
    return wire.disk(_disk(call))


@_operation("disk_delete", "DELETE", "/v1/disks/{disk}", 204)
async def _disk_delete(call: Call) -> None:
    await disks.delete(call.region, _disk(call))


def _snapshot(call: Call) -> Snapshot:
    return call.region.select(call.region.snapshots, "snapshot", call.path["snapshot"], call.named_project)


@_operation("snapshot_list", "GET", "/v1/snapshots")
async def _snapshot_list(call: Call) -> wire.Json:
    return wire.page(call.region.snapshots, call.project.id, call.query, wire.snapshot)


@_operation("snapshot_create", "POST", "/v1/snapshots", 201)
async def _snapshot_create(call: Call) -> wire.Json:
    project, body = call.project, bodies.parse(bodies.SnapshotCreate, call.body)
    return wire.snapshot(await disks.create_snapshot(call.region, project, body, call.struck))


@_operation("snapshot_view", "GET", "/v1/snapshots/{snapshot}")
async def _snapshot_view(call: Call) -> wire.Json:
    return wire.snapshot(_snapshot(call))


@_operation("snapshot_delete", "DELETE", "/v1/snapshots/{snapshot}", 204)
async def _snapshot_delete(call: Call) -> None:
    await disks.discard(call.region, _snapshot(call))


# Instances


def _instance(call: Call) -> Instance:
    return call.region.select(call.region.instances, "instance", call.path["instance"], call.named_project)


@_operation("instance_list", "GET", "/v1/instances")
async def _instance_list(call: Call) -> wire.Json:
    return wire.page(call.region.instances, call.project.id, call.query, wire.instance)


@_operation("instance_create", "POST", "/v1/instances", 201)
async def _instance_create(call: Call) -> wire.Json:
    project, body = call.project, bodies.parse(bodies.InstanceCreate, call.body)
    return wire.instance(await instances.create(call.region, call.power, project, body, call.struck))


@_operation("instance_view", "GET", "/v1/instances/{instance}")
async def _instance_view(call: Call) -> wire.Json:
    return wire.instance(_instance(call))


@_operation("instance_delete", "DELETE", "/v1/instances/{instance}", 204)
async def _instance_delete(call: Call) -> None:
    await instances.delete(call.region, call.power, _instance(call))


@_operation("instance_start", "POST", "/v1/instances/{instance}/start", 202)
async def _instance_start(call: Call) -> wire.Json:
    instance = _instance(call)
    instances.start(call.power, instance, call.struck)
    return wire.instance(instance)


@_operation("instance_stop", "POST", "/v1/instances/{instance}/stop", 202)
async def _instance_stop(call: Call) -> wire.Json:
    instance = _instance(call)
    instances.stop(call.region, call.power, instance)
    return wire.instance(instance)


@_operation("instance_reboot", "POST", "/v1/instances/{instance}/reboot", 202)
async def _instance_reboot(call: Call) -> wire.Json:
    instance = _instance(call)
    instances.reboot(call.power, instance)
    return wire.instance(instance)


@_operation("instance_serial_console", "GET", "/v1/instances/{instance}/serial-console")
async def _serial_console(call: Call) -> wire.Json:
    numbers = {name: call.number(name) for name in ("from_start", "most_recent", "max_bytes")}
    given = {name: number for name, number in numbers.items() if number is not None}
    data, end = instances.serial_console(call.power, _instance(call), given)
    return {"data": list(data), "last_byte_offset": end}


@_operation("instance_external_ip_list", "GET", "/v1/instances/{instance}/external-ips")
async def _external_ips(call: Call) -> wire.Json:
    return wire.all_of(network.external_ips(call.region, _instance(call)))


@_operation("instance_disk_list", "GET", "/v1/instances/{instance}/disks")
async def _instance_disks(call: Call) -> wire.Json:
    found = [call.region.disks.get(disk_id) for disk_id in _instance(call).disk_ids]
    return wire.page_of([disk for disk in found if disk], call.query, wire.disk)


@_operation("instance_disk_attach", "POST", "/v1/instances/{instance}/disks/attach", 202)
async def _instance_disk_attach(call: Call) -> wire.Json:
    instance = _instance(call)
    disk = _disk_of_body(call, instance)
    instances.attach_disk(call.region, instance, disk)
    return wire.disk(disk)


@_operation("instance_disk_detach", "POST", "/v1/instances/{instance}/disks/detach", 202)
async def _instance_disk_detach(call: Call) -> wire.Json:
    instance = _instance(call)
    disk = _disk_of_body(call, instance)
    instances.detach_disk(call.region, instance, disk)
    return wire.disk(disk)


def _disk_of_body(call: Call, instance: Instance) -> Disk:
    body = bodies.parse(bodies.DiskPath, call.body)
    return call.region.find(call.region.disks, "disk", body.disk, instance.project_id)


@_operation("instance_ssh_public_key_list", "GET", "/v1/instances/{instance}/ssh-public-keys")
async def _instance_ssh_keys(call: Call) -> wire.Json:
    found = [call.region.ssh_keys.get(key_id) for key_id in _instance(call).ssh_key_ids]
    return wire.page_of([key for key in found if key], call.query, _ssh_key_view(call))


@_operation("instance_anti_affinity_group_list", "GET", "/v1/instances/{instance}/anti-affinity-groups")
async def _instance_groups(call: Call) -> wire.Json:
    instance = _instance(call)
    groups = [g for g in call.region.groups.within(instance.project_id) if instance.id in g.members]
    return wire.page_of(groups, call.query, wire.anti_affinity_group)


# Anti-affinity groups


def _group(call: Call) -> AntiAffinityGroup:
    return call.region.select(
        call.region.groups, "anti-affinity-group", call.path["anti_affinity_group"], call.named_project
    )


@_operation("anti_affinity_group_list", "GET", "/v1/anti-affinity-groups")
async def _group_list(call: Call) -> wire.Json:
    return wire.page(call.region.groups, call.project.id, call.query, wire.anti_affinity_group)


@_operation("anti_affinity_group_create", "POST", "/v1/anti-affinity-groups", 201)
async def _group_create(call: Call) -> wire.Json:
    project, body = call.project, bodies.parse(bodies.AntiAffinityGroupCreate, call.body)
    if call.region.groups.named(project.id, body.name):
        raise errors.already_exists("anti-affinity-group", body.name)
    group = AntiAffinityGroup(id=new_id(), project_id=project.id, **body.model_dump())
    call.region.groups.save(group)
    return wire.anti_affinity_group(group)


@_operation("anti_affinity_group_view", "GET", "/v1/anti-affinity-groups/{anti_affinity_group}")
async def _group_view(call: Call) -> wire.Json:
    return wire.anti_affinity_group(_group(call))


@_operation("anti_affinity_group_delete", "DELETE", "/v1/anti-affinity-groups/{anti_affinity_group}", 204)
async def _group_delete(call: Call) -> None:
    call.region.groups.delete(_group(call).id)


@_operation("anti_affinity_group_member_list", "GET", "/v1/anti-affinity-groups/{anti_affinity_group}/members")
async def _group_members(call: Call) -> wire.Json:
    found = [call.region.instances.get(member) for member in _group(call).members]

    def member(instance: Instance) -> wire.Json:
        value = {"id": instance.id, "name": instance.name, "run_state": instance.state}
        return {"type": "instance", "value": value}

    return wire.page_of([instance for instance in found if instance], call.query, member)
