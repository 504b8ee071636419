"""What clients send for addresses and network interfaces."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from emulators.oxide.bodies.base import (
    Body,
    IdentityCreate,
    IdentityUpdate,
    Ip,
    IpNet,
    Ipv4,
    Ipv4Net,
    Ipv6,
    Ipv6Net,
    Name,
    NameOrId,
)


class AutoAddress(Body):
    """Any address of the subnet."""

    type: Literal["auto"]


class ExplicitAddress(Body):
    """This address of the subnet."""

    type: Literal["explicit"]
    value: Ipv4


class Ipv4Stack(Body):
    """`PrivateIpv4StackCreate`."""

    ip: Annotated[AutoAddress | ExplicitAddress, Field(discriminator="type")]
    transit_ips: list[Ipv4Net] = Field(default_factory=list)


class Ipv4Config(Body):
    """An interface with an IPv4 address."""

    type: Literal["v4"]
    value: Ipv4Stack


class ExplicitIpv6Address(Body):
    """This IPv6 address of the subnet."""

    type: Literal["explicit"]
    value: Ipv6


class Ipv6Stack(Body):
    """`PrivateIpv6StackCreate`."""

    ip: Annotated[AutoAddress | ExplicitIpv6Address, Field(discriminator="type")]
    transit_ips: list[Ipv6Net] = Field(default_factory=list)


class Ipv6Config(Body):
    """An interface with an IPv6 address."""

    type: Literal["v6"]
    value: Ipv6Stack


class BothStacks(Body):
    """Both addresses of a dual-stack interface."""

    v4: Ipv4Stack
    v6: Ipv6Stack


class DualStackConfig(Body):
    """An interface with both addresses."""

    type: Literal["dual_stack"]
    value: BothStacks


IpConfig = Annotated[Ipv4Config | Ipv6Config | DualStackConfig, Field(discriminator="type")]


_AUTO_V4, _AUTO_V6 = Ipv4Stack(ip=AutoAddress(type="auto")), Ipv6Stack(ip=AutoAddress(type="auto"))


DEFAULT_CONFIGS: dict[str, IpConfig] = {
    "default_ipv4": Ipv4Config(type="v4", value=_AUTO_V4),
    "default_ipv6": Ipv6Config(type="v6", value=_AUTO_V6),
    "default_dual_stack": DualStackConfig(type="dual_stack", value=BothStacks(v4=_AUTO_V4, v6=_AUTO_V6)),
}
"""The interfaces that an instance can have without naming one."""


class NetworkInterfaceCreate(IdentityCreate):
    """`InstanceNetworkInterfaceCreate`."""

    vpc_name: Name
    subnet_name: Name
    ip_config: IpConfig = DEFAULT_CONFIGS["default_dual_stack"]


class NetworkInterfaceUpdate(IdentityUpdate):
    """`InstanceNetworkInterfaceUpdate`."""

    primary: bool = False
    transit_ips: list[IpNet] = Field(default_factory=list)


class CreatedInterfaces(Body):
    """Interfaces named one by one."""

    type: Literal["create"]
    params: list[NetworkInterfaceCreate]


class DefaultInterfaces(Body):
    """One interface on the default subnet, or none."""

    type: Literal["default_ipv4", "default_ipv6", "default_dual_stack", "none"]


Interfaces = Annotated[CreatedInterfaces | DefaultInterfaces, Field(discriminator="type")]


class ExplicitPool(Body):
    """This pool."""

    type: Literal["explicit"]
    pool: NameOrId


class AutoPool(Body):
    """The silo's default pool."""

    type: Literal["auto"]
    ip_version: Literal["v4", "v6"] | None = None


PoolSelector = Annotated[ExplicitPool | AutoPool, Field(discriminator="type")]


class EphemeralIpCreate(Body):
    """`EphemeralIpCreate`."""

    pool_selector: PoolSelector = AutoPool(type="auto")


class EphemeralIp(EphemeralIpCreate):
    """An address for as long as the instance lives."""

    type: Literal["ephemeral"]


class FloatingIpOfInstance(Body):
    """A floating IP that is already there."""

    type: Literal["floating"]
    floating_ip: NameOrId


ExternalIp = Annotated[EphemeralIp | FloatingIpOfInstance, Field(discriminator="type")]


class ExplicitAllocation(Body):
    """This address."""

    type: Literal["explicit"]
    ip: Ip


class AutoAllocation(Body):
    """Any address of a pool."""

    type: Literal["auto"]
    pool_selector: PoolSelector = AutoPool(type="auto")


class FloatingIpCreate(IdentityCreate):
    """`FloatingIpCreate`."""

    address_allocator: Annotated[ExplicitAllocation | AutoAllocation, Field(discriminator="type")] = AutoAllocation(
        type="auto"
    )


class FloatingIpAttach(Body):
    """`FloatingIpAttach`."""

    kind: Literal["instance"]
    parent: NameOrId
