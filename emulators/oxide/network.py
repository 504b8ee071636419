"""Addresses: interfaces in a VPC, and the external addresses, which are loopback addresses of this host."""

from __future__ import annotations

import random
from ipaddress import IPv4Network

from emulators.oxide import errors, wire
from emulators.oxide.bodies import (
    AutoPool,
    CreatedInterfaces,
    ExplicitAddress,
    ExplicitAllocation,
    FloatingIpCreate,
    Interfaces,
    Ipv4Config,
    NetworkInterfaceCreate,
    OtherIpConfig,
    PoolSelector,
)
from emulators.oxide.records import FloatingIp, Instance, NetworkInterface, Project, new_id, now
from emulators.oxide.region import OxideRegion

_RESERVED = 5
"""The first addresses of each subnet belong to the rack."""
_MAX_INTERFACES = 8


def check_pool(region: OxideRegion, selector: PoolSelector) -> None:
    """Refuse a pool that this region does not have: there is one, of IPv4 addresses.

    Raises:
        ApiError: 404.
    """
    if isinstance(selector, AutoPool):
        if selector.ip_version == "v6":
            raise errors.ApiError(404, "ObjectNotFound", "not found: default unicast IPv6 pool for current silo")
    elif selector.pool not in {"default", region.identity.pool_id}:
        raise errors.not_found("ip-pool", selector.pool, by_id=len(selector.pool) == 36)


def take_address(region: OxideRegion) -> str:
    """Take an external address.

    Raises:
        ApiError: 507 when there is none left.
    """
    address = region.addresses.take()
    if address is None:
        raise errors.no_capacity("No external IP addresses available")
    return address


def plan_interfaces(
    region: OxideRegion, project: Project, instance_id: str, wanted: Interfaces
) -> list[NetworkInterface]:
    """Check the interfaces that an instance asks for, and give each its address.

    Raises:
        ApiError: a VPC or subnet that is not there, an address that is taken, too many interfaces.
    """
    if isinstance(wanted, CreatedInterfaces):
        params = wanted.params
    elif wanted.type == "none":
        params = []
    elif wanted.type == "default_ipv6":
        raise errors.invalid_request("this region has no IPv6")
    else:
        params = [
            NetworkInterfaceCreate(
                name="net0", description="default primary interface", vpc_name="default", subnet_name="default"
            )
        ]
    if len(params) > _MAX_INTERFACES:
        raise errors.invalid_request(f"An instance may not have more than {_MAX_INTERFACES} network interfaces")
    if len({p.vpc_name for p in params}) > 1:
        raise errors.invalid_request("All network interfaces for an instance must be in the same VPC")
    made: list[NetworkInterface] = []
    try:
        for number, param in enumerate(params):
            if any(nic.name == param.name for nic in made):
                raise errors.already_exists("instance-network-interface", param.name)
            made.append(_plan_interface(region, project, instance_id, param, primary=number == 0))
    except errors.ApiError:
        forget_interfaces(region, made)
        raise
    return made


def _plan_interface(
    region: OxideRegion, project: Project, instance_id: str, param: NetworkInterfaceCreate, *, primary: bool
) -> NetworkInterface:
    vpc = region.find(region.vpcs, "vpc", param.vpc_name, project.id)
    subnet = region.find(region.vpc_subnets, "vpc-subnet", param.subnet_name, vpc.id)
    explicit, transit = None, []
    match param.ip_config:
        case OtherIpConfig(type="v6"):
            raise errors.invalid_request("this region has no IPv6")
        case Ipv4Config(value=stack):
            explicit = stack.ip.value if isinstance(stack.ip, ExplicitAddress) else None
            transit = stack.transit_ips
    address = _private_address(region, subnet.id, IPv4Network(subnet.ipv4_block), explicit)
    return NetworkInterface(
        id=new_id(),
        name=param.name,
        description=param.description,
        instance_id=instance_id,
        vpc_id=vpc.id,
        subnet_id=subnet.id,
        ip=address,
        transit_ips=transit,
        mac=f"A8:40:25:F{random.randrange(16):X}:{random.randrange(256):02X}:{random.randrange(256):02X}",  # noqa: S311
        primary=primary,
    )


def _private_address(region: OxideRegion, subnet_id: str, block: IPv4Network, explicit: str | None) -> str:
    wanted = [explicit] if explicit else (str(block[n]) for n in range(_RESERVED, block.num_addresses - 1))
    for address in wanted:
        if (subnet_id, address) not in region.private_ips:
            region.private_ips.add((subnet_id, address))
            return address
    if explicit:
        raise errors.invalid_request(f"The IP address '{explicit}' is not available")
    raise errors.no_capacity("No available IP addresses for interface")


def forget_interfaces(region: OxideRegion, interfaces: list[NetworkInterface]) -> None:
    """Remove interfaces, stored or not, and give their addresses back."""
    for nic in interfaces:
        region.private_ips.discard((nic.subnet_id, nic.ip))
        region.interfaces.delete(nic.id)


def external_ips(region: OxideRegion, instance: Instance) -> list[wire.Json]:
    """An instance's external addresses: the shared one of its outbound connections, then its own."""
    pool = {"ip_pool_id": region.identity.pool_id}
    found: list[wire.Json] = [
        {"kind": "snat", "ip": region.addresses.gateway, "first_port": 0, "last_port": 16383, **pool}
    ]
    if instance.ephemeral_ip:
        found.append({"kind": "ephemeral", "ip": instance.ephemeral_ip, **pool})
    found += [
        {"kind": "floating", **wire.floating_ip(ip, region.identity.pool_id)}
        for ip in region.floating_ips.within(instance.project_id)
        if ip.instance_id == instance.id
    ]
    return found


def create_floating_ip(region: OxideRegion, project: Project, body: FloatingIpCreate) -> FloatingIp:
    """Reserve an address by name.

    Raises:
        ApiError: the name or the address is taken, or none is left.
    """
    if region.floating_ips.named(project.id, body.name):
        raise errors.already_exists("floating-ip", body.name)
    allocator = body.address_allocator
    if isinstance(allocator, ExplicitAllocation):
        if not region.addresses.is_free(allocator.ip):
            raise errors.invalid_request("Requested external IP address not available")
        address = allocator.ip
        region.addresses.reserve([address])
    else:
        check_pool(region, allocator.pool_selector)
        address = take_address(region)
    floating = FloatingIp(id=new_id(), name=body.name, description=body.description, project_id=project.id, ip=address)
    region.floating_ips.save(floating)
    return floating


def delete_floating_ip(region: OxideRegion, floating: FloatingIp) -> None:
    """Give a reserved address back.

    Raises:
        ApiError: 400 while an instance has it.
    """
    if floating.instance_id is not None:
        raise errors.invalid_request("Floating IP cannot be deleted while attached to an instance")
    region.floating_ips.delete(floating.id)
    region.addresses.release(floating.ip)


def hold_floating_ip(region: OxideRegion, floating: FloatingIp, instance_id: str | None) -> None:
    """Give a floating IP to an instance, or take it back. Its machine knows at its next start."""
    floating.instance_id, floating.time_modified = instance_id, now()
    region.floating_ips.save(floating)
