"""Networks: pools, VPCs, floating IPs and network interfaces."""

from __future__ import annotations

from emulators.oxide import errors, external, interfaces, wire
from emulators.oxide.bodies.base import IdentityUpdate, is_uuid, parse
from emulators.oxide.bodies.networks import (
    FloatingIpAttach,
    FloatingIpCreate,
    NetworkInterfaceCreate,
    NetworkInterfaceUpdate,
)
from emulators.oxide.calls import Call, Operations
from emulators.oxide.records import FloatingIp, Instance, NetworkInterface, Vpc
from emulators.oxide.updates import update

OPERATIONS = Operations()
_operation = OPERATIONS.add


@_operation("ip_pool_list", "GET", "/v1/ip-pools")
async def _ip_pool_list(call: Call) -> wire.Json:
    silo_id = call.caller.user.silo_id
    return wire.page_of(external.pools(call.caller), call.query, lambda pool: wire.ip_pool(pool, silo_id))


@_operation("ip_pool_view", "GET", "/v1/ip-pools/{pool}")
async def _ip_pool_view(call: Call) -> wire.Json:
    pool = call.caller.find(call.region.pools, "ip-pool", call.path["pool"])
    return wire.ip_pool(pool, call.caller.user.silo_id)


def _vpc(call: Call, name_or_id: str | None) -> Vpc:
    if name_or_id is None:
        raise errors.bad_request("unable to parse query string: missing field `vpc`")
    return call.caller.select(call.region.vpcs, "vpc", name_or_id, call.named_project)


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
    if is_uuid(subnet):
        if "vpc" in call.query or "project" in call.query:
            raise errors.invalid_request("when providing subnet as an ID, vpc and project should not be specified")
        return wire.vpc_subnet(call.caller.find(subnets, "vpc-subnet", subnet))
    return wire.vpc_subnet(call.caller.find(subnets, "vpc-subnet", subnet, _vpc(call, call.query.get("vpc")).id))


# Floating IPs


def _floating_ip(call: Call) -> FloatingIp:
    return call.selected(call.region.floating_ips, "floating-ip", "floating_ip")


@_operation("floating_ip_list", "GET", "/v1/floating-ips")
async def _floating_ip_list(call: Call) -> wire.Json:
    return wire.page(call.region.floating_ips, call.project.id, call.query, wire.floating_ip)


@_operation("floating_ip_create", "POST", "/v1/floating-ips", 201)
async def _floating_ip_create(call: Call) -> wire.Json:
    project, body = call.project, parse(FloatingIpCreate, call.body)
    return wire.floating_ip(external.create_floating(call.caller, project, body))


@_operation("floating_ip_view", "GET", "/v1/floating-ips/{floating_ip}")
async def _floating_ip_get(call: Call) -> wire.Json:
    return wire.floating_ip(_floating_ip(call))


@_operation("floating_ip_update", "PUT", "/v1/floating-ips/{floating_ip}")
async def _floating_ip_update(call: Call) -> wire.Json:
    floating = _floating_ip(call)
    update(call.region.floating_ips, "floating-ip", floating, parse(IdentityUpdate, call.body))
    return wire.floating_ip(floating)


@_operation("floating_ip_delete", "DELETE", "/v1/floating-ips/{floating_ip}", 204)
async def _floating_ip_delete(call: Call) -> None:
    external.delete_floating(call.region, _floating_ip(call))


@_operation("floating_ip_attach", "POST", "/v1/floating-ips/{floating_ip}/attach", 202)
async def _floating_ip_attach(call: Call) -> wire.Json:
    floating = _floating_ip(call)
    body = parse(FloatingIpAttach, call.body)
    instance = call.caller.find(call.region.instances, "instance", body.parent, floating.project_id)
    external.attach_floating(call.region, floating, instance)
    return wire.floating_ip(floating)


@_operation("floating_ip_detach", "POST", "/v1/floating-ips/{floating_ip}/detach", 202)
async def _floating_ip_detach(call: Call) -> wire.Json:
    floating = _floating_ip(call)
    if floating.instance_id is None:
        raise errors.invalid_request("floating IP is not attached to an instance")
    external.hold_floating(call.region, floating, None)
    return wire.floating_ip(floating)


# Network interfaces


def _interface(call: Call) -> tuple[Instance, NetworkInterface]:
    name_or_id, nics, kind = call.path["interface"], call.region.interfaces, "instance-network-interface"
    if is_uuid(name_or_id):
        if "instance" in call.query or "project" in call.query:
            raise errors.invalid_request(
                "when providing network interface as an ID, instance and project should not be specified"
            )
        nic = call.caller.find(nics, kind, name_or_id)
    else:
        nic = call.caller.find(nics, kind, name_or_id, call.instance_of_query.id)
    owner = call.region.instances.get(nic.instance_id)
    assert owner is not None
    return owner, nic


@_operation("instance_network_interface_list", "GET", "/v1/network-interfaces")
async def _interface_list(call: Call) -> wire.Json:
    return wire.page(call.region.interfaces, call.instance_of_query.id, call.query, wire.network_interface)


@_operation("instance_network_interface_create", "POST", "/v1/network-interfaces", 201)
async def _interface_create(call: Call) -> wire.Json:
    instance, body = call.instance_of_query, parse(NetworkInterfaceCreate, call.body)
    return wire.network_interface(interfaces.create(call.caller, instance, body))


@_operation("instance_network_interface_view", "GET", "/v1/network-interfaces/{interface}")
async def _interface_view(call: Call) -> wire.Json:
    return wire.network_interface(_interface(call)[1])


@_operation("instance_network_interface_update", "PUT", "/v1/network-interfaces/{interface}")
async def _interface_update(call: Call) -> wire.Json:
    instance, nic = _interface(call)
    interfaces.update(call.region, instance, nic, parse(NetworkInterfaceUpdate, call.body))
    return wire.network_interface(nic)


@_operation("instance_network_interface_delete", "DELETE", "/v1/network-interfaces/{interface}", 204)
async def _interface_delete(call: Call) -> None:
    interfaces.delete(call.region, *_interface(call))
