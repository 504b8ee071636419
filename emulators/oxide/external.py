"""External addresses: of pools, by the instance or reserved by name. They are loopback addresses of this host."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from emulators.oxide import errors, wire
from emulators.oxide.bodies.networks import AutoPool, ExplicitAllocation, ExplicitPool, FloatingIpCreate, PoolSelector
from emulators.oxide.caller import Caller
from emulators.oxide.records import EphemeralIp, FloatingIp, Instance, IpPool, Project, new_id, now
from emulators.oxide.region import OxideRegion

_FULL = "No external IP addresses available"


def pools(caller: Caller) -> list[IpPool]:
    """The pools that the caller's silo may use, by name."""
    return [pool for pool in caller.region.pools.within("") if caller.user.silo_id in pool.silos]


def version_of(address_or_network: str) -> str:
    """`v4` or `v6`."""
    return "v6" if ":" in address_or_network else "v4"


def choose_pool(caller: Caller, selector: PoolSelector) -> IpPool:
    """The pool that a request selects.

    Raises:
        ApiError: 404 for none of that name or no default, 400 when one of two defaults must be chosen.
    """
    if isinstance(selector, ExplicitPool):
        return caller.find(caller.region.pools, "ip-pool", selector.pool)
    assert isinstance(selector, AutoPool)
    defaults = [pool for pool in pools(caller) if pool.silos[caller.user.silo_id]]
    wanted = [pool for pool in defaults if selector.ip_version in {None, version_of(pool.network)}]
    if len(wanted) > 1:
        raise errors.invalid_request("ip_version is required when the silo has default pools of both IP versions")
    if not wanted:
        version = {"v4": "IPv4 ", "v6": "IPv6 "}.get(selector.ip_version or "", "")
        raise errors.no_such(f"not found: default unicast {version}pool for current silo")
    return wanted[0]


def take(caller: Caller, selector: PoolSelector) -> EphemeralIp:
    """Take an address of a pool.

    Raises:
        ApiError: as for `choose_pool`; 507 when the pool is exhausted.
    """
    pool = choose_pool(caller, selector)
    address = caller.region.addresses[pool.id].take()
    if address is None:
        raise errors.no_capacity(_FULL)
    return EphemeralIp(ip=address, ip_pool_id=pool.id)


def release(region: OxideRegion, given: EphemeralIp | FloatingIp) -> None:
    """Give an address back to its pool."""
    if pool := region.addresses.get(given.ip_pool_id):
        pool.release(given.ip)


def attach_ephemeral(caller: Caller, instance: Instance, selector: PoolSelector) -> EphemeralIp:
    """Give an instance an ephemeral address. Its machine knows at its next start.

    Raises:
        ApiError: it has one of that IP version, has no interfaces, or as for `take`.
    """
    if not caller.region.interfaces.within(instance.id):
        raise errors.invalid_request("An instance without network interfaces cannot have external IP addresses")
    given = take(caller, selector)
    if any(version_of(ip.ip) == version_of(given.ip) for ip in instance.ephemeral_ips):
        release(caller.region, given)
        raise errors.invalid_request("An instance may not have more than 1 ephemeral IP address")
    instance.ephemeral_ips.append(given)
    instance.time_modified = now()
    caller.region.instances.save(instance)
    return given


def detach_ephemeral(region: OxideRegion, instance: Instance, version: str | None) -> None:
    """Take an instance's ephemeral address back.

    Raises:
        ApiError: it has none, or one of two must be chosen.
    """
    found = [ip for ip in instance.ephemeral_ips if version in {None, version_of(ip.ip)}]
    if not found:
        raise errors.invalid_request("instance does not have an ephemeral IP attached")
    if len(found) > 1:
        raise errors.invalid_request("ip_version is required when an instance has ephemeral IPs of both versions")
    instance.ephemeral_ips.remove(found[0])
    instance.time_modified = now()
    region.instances.save(instance)
    release(region, found[0])


def of_instance(region: OxideRegion, instance: Instance) -> list[wire.Json]:
    """An instance's external addresses: the shared one of its outbound connections, then its own."""
    pool_id = region.identity.pool_id
    found: list[wire.Json] = []
    if region.interfaces.within(instance.id):
        gateway = region.addresses[pool_id].gateway
        found.append({"kind": "snat", "ip": gateway, "ip_pool_id": pool_id, "first_port": 0, "last_port": 16383})
    found += [{"kind": "ephemeral", **ip.model_dump()} for ip in instance.ephemeral_ips]
    found += [{"kind": "floating", **wire.floating_ip(ip)} for ip in floating_of(region, instance)]
    return found


def floating_of(region: OxideRegion, instance: Instance) -> list[FloatingIp]:
    """The floating IPs that an instance has."""
    return [ip for ip in region.floating_ips.within(instance.project_id) if ip.instance_id == instance.id]


def create_floating(caller: Caller, project: Project, body: FloatingIpCreate) -> FloatingIp:
    """Reserve an address by name.

    Raises:
        ApiError: the name or the address is taken, or none is left.
    """
    region = caller.region
    if region.floating_ips.named(project.id, body.name):
        raise errors.already_exists("floating-ip", body.name)
    allocator = body.address_allocator
    given = _reserve(caller, allocator.ip) if isinstance(allocator, ExplicitAllocation) else None
    given = given or take(caller, getattr(allocator, "pool_selector", AutoPool(type="auto")))
    floating = FloatingIp(
        id=new_id(), name=body.name, description=body.description, project_id=project.id, **given.model_dump()
    )
    region.floating_ips.save(floating)
    return floating


def _reserve(caller: Caller, address: str) -> EphemeralIp:
    pool = next((pool for pool in pools(caller) if ip_address(address) in ip_network(pool.network)), None)
    if pool is None:
        raise errors.invalid_request("Requested external IP address is not in any IP pool of this silo")
    if not caller.region.addresses[pool.id].is_free(address):
        raise errors.invalid_request("Requested external IP address not available")
    caller.region.addresses[pool.id].reserve([address])
    return EphemeralIp(ip=address, ip_pool_id=pool.id)


def delete_floating(region: OxideRegion, floating: FloatingIp) -> None:
    """Give a reserved address back.

    Raises:
        ApiError: 400 while an instance has it.
    """
    if floating.instance_id is not None:
        raise errors.invalid_request("Floating IP cannot be deleted while attached to an instance")
    region.floating_ips.delete(floating.id)
    release(region, floating)


def attach_floating(region: OxideRegion, floating: FloatingIp, instance: Instance) -> None:
    """Give a floating IP to an instance of its project; nothing happens if it has it.

    Raises:
        ApiError: another instance has it, or the instance is another project's.
    """
    if instance.project_id != floating.project_id:
        raise errors.invalid_request("instance must be in the same project as the floating IP")
    if floating.instance_id == instance.id:
        return
    if floating.instance_id is not None:
        raise errors.invalid_request("floating IP cannot be attached to one instance while in use")
    if not region.interfaces.within(instance.id):
        raise errors.invalid_request("An instance without network interfaces cannot have external IP addresses")
    hold_floating(region, floating, instance.id)


def hold_floating(region: OxideRegion, floating: FloatingIp, instance_id: str | None) -> None:
    """Give a floating IP to an instance, or take it back. Its machine knows at its next start."""
    floating.instance_id, floating.time_modified = instance_id, now()
    region.floating_ips.save(floating)
