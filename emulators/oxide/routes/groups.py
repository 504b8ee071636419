"""Anti-affinity groups and their members."""

from __future__ import annotations

from emulators.oxide import errors, groups, wire
from emulators.oxide.bodies.base import IdentityUpdate, is_uuid, parse
from emulators.oxide.bodies.instances import AntiAffinityGroupCreate
from emulators.oxide.calls import Call, Operations
from emulators.oxide.records import AntiAffinityGroup, Instance, new_id
from emulators.oxide.updates import update

OPERATIONS = Operations()
_operation = OPERATIONS.add


def _group(call: Call) -> AntiAffinityGroup:
    return call.selected(call.region.groups, "anti-affinity-group", "anti_affinity_group")


@_operation("anti_affinity_group_list", "GET", "/v1/anti-affinity-groups")
async def _group_list(call: Call) -> wire.Json:
    return wire.page(call.region.groups, call.project.id, call.query, wire.anti_affinity_group)


@_operation("anti_affinity_group_create", "POST", "/v1/anti-affinity-groups", 201)
async def _group_create(call: Call) -> wire.Json:
    project, body = call.project, parse(AntiAffinityGroupCreate, call.body)
    if call.region.groups.named(project.id, body.name):
        raise errors.already_exists("anti-affinity-group", body.name)
    group = AntiAffinityGroup(id=new_id(), project_id=project.id, **body.model_dump())
    call.region.groups.save(group)
    return wire.anti_affinity_group(group)


@_operation("anti_affinity_group_view", "GET", "/v1/anti-affinity-groups/{anti_affinity_group}")
async def _group_view(call: Call) -> wire.Json:
    return wire.anti_affinity_group(_group(call))


@_operation("anti_affinity_group_update", "PUT", "/v1/anti-affinity-groups/{anti_affinity_group}")
async def _group_update(call: Call) -> wire.Json:
    group = _group(call)
    update(call.region.groups, "anti-affinity-group", group, parse(IdentityUpdate, call.body))
    return wire.anti_affinity_group(group)


@_operation("anti_affinity_group_delete", "DELETE", "/v1/anti-affinity-groups/{anti_affinity_group}", 204)
async def _group_delete(call: Call) -> None:
    call.region.groups.delete(_group(call).id)


@_operation("anti_affinity_group_member_list", "GET", "/v1/anti-affinity-groups/{anti_affinity_group}/members")
async def _group_members(call: Call) -> wire.Json:
    found = [call.region.instances.get(member) for member in _group(call).members]
    return wire.page_of([instance for instance in found if instance], call.query, wire.group_member)


_MEMBER = "/v1/anti-affinity-groups/{anti_affinity_group}/members/instance/{instance}"


def _instance(call: Call, group: AntiAffinityGroup) -> Instance:
    if is_uuid(call.path["instance"]) is is_uuid(call.path["anti_affinity_group"]):
        return call.instance
    # `project` belongs to whichever of the two is a name.
    return call.caller.find(call.region.instances, "instance", call.path["instance"], group.project_id)


def _member(call: Call) -> tuple[AntiAffinityGroup, Instance]:
    group = _group(call)
    instance = _instance(call, group)
    if instance.id not in group.members:
        raise errors.not_found("anti-affinity-group-member", instance.id, by_id=True)
    return group, instance


@_operation("anti_affinity_group_member_instance_view", "GET", _MEMBER)
async def _member_view(call: Call) -> wire.Json:
    return wire.group_member(_member(call)[1])


@_operation("anti_affinity_group_member_instance_add", "POST", _MEMBER, 201)
async def _member_add(call: Call) -> wire.Json:
    group = _group(call)
    instance = _instance(call, group)
    if instance.project_id != group.project_id:
        raise errors.invalid_request("instance and group are in different projects")
    if instance.id in group.members:
        raise errors.already_exists("anti-affinity-group-member", instance.id)
    groups.add(call.region, group, instance)
    return wire.group_member(instance)


@_operation("anti_affinity_group_member_instance_delete", "DELETE", _MEMBER, 204)
async def _member_delete(call: Call) -> None:
    groups.remove(call.region, *_member(call))
