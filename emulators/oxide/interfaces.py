"""Network interfaces: an instance's addresses in its VPC, of one IP version or both."""

from __future__ import annotations

import random
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from emulators.oxide import errors
from emulators.oxide.bodies.networks import (
    DEFAULT_CONFIGS,
    AutoAddress,
    CreatedInterfaces,
    DualStackConfig,
    Interfaces,
    Ipv4Config,
    Ipv4Stack,
    Ipv6Config,
    Ipv6Stack,
    NetworkInterfaceCreate,
    NetworkInterfaceUpdate,
)
from emulators.oxide.caller import Caller
from emulators.oxide.records import Instance, InstanceState, IpStack, NetworkInterface, Project, new_id
from emulators.oxide.region import OxideRegion
from emulators.oxide.updates import update as update_identity

_RESERVED = 5
"""The first addresses of each subnet belong to the rack."""
_MAX_INTERFACES = 8


def plan(caller: Caller, project: Project, instance_id: str, wanted: Interfaces) -> list[NetworkInterface]:
    """Check the interfaces that an instance asks for, and give each its addresses.

    Raises:
        ApiError: a VPC or subnet that is not there, an address that is taken, too many interfaces.
    """
    if isinstance(wanted, CreatedInterfaces):
        params = wanted.params
        if len(params) > _MAX_INTERFACES:
            raise _too_many()
        if len({p.vpc_name for p in params}) != 1:
            raise errors.invalid_request("All interfaces must be in the same VPC")
    elif wanted.type == "none":
        params = []
    else:
        params = [
            NetworkInterfaceCreate(
                name="net0",
                description=f"default primary interface for {instance_id}",
                vpc_name="default",
                subnet_name="default",
                ip_config=DEFAULT_CONFIGS[wanted.type],
            )
        ]
    made: list[NetworkInterface] = []
    try:
        for number, param in enumerate(params):
            if any(nic.name == param.name for nic in made):
                raise errors.already_exists("instance-network-interface", param.name)
            made.append(_plan_one(caller, project, instance_id, param, primary=number == 0))
    except BaseException:
        forget(caller.region, made)
        raise
    return made


def _too_many() -> errors.ApiError:
    return errors.invalid_request(f"An instance may not have more than {_MAX_INTERFACES} network interfaces")


def _plan_one(
    caller: Caller, project: Project, instance_id: str, param: NetworkInterfaceCreate, *, primary: bool
) -> NetworkInterface:
    region = caller.region
    vpc = caller.find(region.vpcs, "vpc", param.vpc_name, project.id)
    subnet = caller.find(region.vpc_subnets, "vpc-subnet", param.subnet_name, vpc.id)
    v4, v6 = None, None
    match param.ip_config:
        case Ipv4Config(value=v4_wanted):
            v4 = _stack(region, subnet.id, IPv4Network(subnet.ipv4_block), v4_wanted)
        case Ipv6Config(value=v6_wanted):
            v6 = _stack(region, subnet.id, IPv6Network(subnet.ipv6_block), v6_wanted)
        case DualStackConfig(value=both):
            v4 = _stack(region, subnet.id, IPv4Network(subnet.ipv4_block), both.v4)
            try:
                v6 = _stack(region, subnet.id, IPv6Network(subnet.ipv6_block), both.v6)
            except errors.ApiError:
                region.private_ips.discard((subnet.id, v4.ip))
                raise
    return NetworkInterface(
        id=new_id(),
        name=param.name,
        description=param.description,
        instance_id=instance_id,
        vpc_id=vpc.id,
        subnet_id=subnet.id,
        v4=v4,
        v6=v6,
        mac=f"A8:40:25:F{random.randrange(16):X}:{random.randrange(256):02X}:{random.randrange(256):02X}",  # noqa: S311
        primary=primary,
    )


def _stack(
    region: OxideRegion, subnet_id: str, block: IPv4Network | IPv6Network, wanted: Ipv4Stack | Ipv6Stack
) -> IpStack:
    if isinstance(wanted.ip, AutoAddress):
        address = next((ip for ip in _usable(block) if (subnet_id, ip) not in region.private_ips), None)
        if address is None:
            raise errors.no_capacity("No available IP addresses for interface")
    else:
        address = wanted.ip.value
        parsed = ip_address(address)
        if parsed not in block:
            raise errors.invalid_request(f"IP address '{address}' is not in the subnet {block}")
        last = block.num_addresses - 1
        if int(parsed) - int(block[0]) < _RESERVED or (block.version == 4 and parsed == block[last]):
            raise errors.invalid_request(f"The IP address '{address}' is reserved")
        if (subnet_id, address) in region.private_ips:
            raise errors.invalid_request(f"The IP address '{address}' is not available")
    region.private_ips.add((subnet_id, address))
    return IpStack(ip=address, transit_ips=list(wanted.transit_ips))


def _usable(block: IPv4Network | IPv6Network) -> Iterator[str]:
    return (str(block[n]) for n in range(_RESERVED, block.num_addresses - 1))


def forget(region: OxideRegion, nics: list[NetworkInterface]) -> None:
    """Remove interfaces, stored or not, and give their addresses back."""
    for nic in nics:
        for stack in (nic.v4, nic.v6):
            if stack is not None:
                region.private_ips.discard((nic.subnet_id, stack.ip))
        region.interfaces.delete(nic.id)


def _check_off(instance: Instance) -> None:
    if instance.state not in {InstanceState.STOPPED, InstanceState.FAILED}:
        raise errors.invalid_request("Instance must be stopped to attach or detach a network interface")


def create(caller: Caller, instance: Instance, body: NetworkInterfaceCreate) -> NetworkInterface:
    """Give an instance that is off another interface. Its first is the primary one.

    Raises:
        ApiError: it runs, it has one of that name or enough of them, or the VPC is another one.
    """
    region = caller.region
    _check_off(instance)
    present = region.interfaces.within(instance.id)
    if len(present) >= _MAX_INTERFACES:
        raise _too_many()
    if any(nic.name == body.name for nic in present):
        raise errors.already_exists("instance-network-interface", body.name)
    project = region.projects.get(instance.project_id)
    assert project is not None
    nic = _plan_one(caller, project, instance.id, body, primary=not present)
    if present and present[0].vpc_id != nic.vpc_id:
        forget(region, [nic])
        raise errors.invalid_request("All interfaces must be in the same VPC")
    region.interfaces.save(nic)
    return nic


def update(region: OxideRegion, instance: Instance, nic: NetworkInterface, body: NetworkInterfaceUpdate) -> None:
    """Change an interface's name, description or transit addresses, or make it the primary one.

    Raises:
        ApiError: the name is taken, or it is to be the primary one of an instance that runs.
    """
    if body.primary and not nic.primary:
        _check_off(instance)
    update_identity(region.interfaces, "instance-network-interface", nic, body)
    if body.primary:
        for other in region.interfaces.within(instance.id):
            other.primary = other.id == nic.id
            region.interfaces.save(other)
    for stack in (nic.v4, nic.v6):
        if stack is not None:
            version = ip_address(stack.ip).version
            stack.transit_ips = [net for net in body.transit_ips if ip_network(net).version == version]
    region.interfaces.save(nic)


def delete(region: OxideRegion, instance: Instance, nic: NetworkInterface) -> None:
    """Remove an interface of an instance that is off; the primary one only as the last.

    Raises:
        ApiError: it runs, or has others beside the primary one.
    """
    _check_off(instance)
    if nic.primary and len(region.interfaces.within(instance.id)) > 1:
        raise errors.invalid_request(
            "The primary interface may not be deleted while secondary interfaces are still attached"
        )
    forget(region, [nic])
