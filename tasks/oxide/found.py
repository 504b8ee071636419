"""What a look at the region found for a definition, and what follows from it without asking again."""

from __future__ import annotations

from dataclasses import dataclass, field

from blocks.errors import Mistake
from blocks.oxide.models import GIB, Image, IpPool, Snapshot, Utilization
from tasks.oxide.instance_options import ExtraDisk
from tasks.oxide.options import OxideOptions


@dataclass
class Found:
    """What is there of what a definition names."""

    source: Image | None = None
    finished: Image | None = None
    """This run's own image, when an earlier attempt has made it."""
    former: Image | None = None
    """The image that is to be replaced."""
    keys: dict[str, str] = field(default_factory=dict)
    """Ids of SSH keys, by what the definition calls them."""
    groups: dict[str, str] = field(default_factory=dict)
    """Ids of anti-affinity groups, by what the definition calls them."""
    disk_sources: dict[str, Image | Snapshot] = field(default_factory=dict)
    """What extra disks start as a copy of, by the disk's name."""
    pools: list[IpPool] | None = None
    """The silo's pools of addresses; None: not asked, or the user may not see them."""
    utilization: Utilization | None = None
    """None: the user may not see it."""

    def size_of(self, disk: ExtraDisk) -> int:
        """How large an extra disk is to be, in bytes."""
        if disk.size is not None:
            return disk.size
        source = self.disk_sources.get(disk.name)
        return -(-source.size // GIB) * GIB if source is not None else GIB


def mistakes_in_sizes(options: OxideOptions, found: Found) -> list[Mistake]:
    """Disks that are smaller than what they start as a copy of."""
    mistakes = []
    if found.source is not None:
        mistakes += _too_small("boot_disk_size", options.boot_disk_size, found.source)
    for place, disk in enumerate(options.extra_disks):
        if (source := found.disk_sources.get(disk.name)) is not None:
            mistakes += _too_small(f"extra_disks[{place}].size", found.size_of(disk), source)
    return mistakes


def _too_small(option: str, size: int, source: Image | Snapshot) -> list[Mistake]:
    if size >= source.size:
        return []
    kind = "image" if isinstance(source, Image) else "snapshot"
    rule = f"must be at least the size of {kind} {source.name}, {-(-source.size // GIB)}GiB"
    return [Mistake(option, rule, f"{size // GIB}GiB")]


def mistakes_in_pools(options: OxideOptions, found: Found) -> list[Mistake]:
    """Pools that the silo has not, or whose addresses the network interface cannot have."""
    if found.pools is None:
        return []
    there = [pool for pool in found.pools if pool.pool_type == "unicast"]
    names = ", ".join(f"{pool.name} ({pool.ip_version})" for pool in there) or "none"
    if options.pools == [None]:
        version = options.external_version
        if any(pool.is_default and pool.ip_version == version for pool in there):
            return []
        rule = f"must be named, since the silo has no default pool of IP{version} addresses; there are: {names}"
        return [Mistake("ip_pool", rule)]
    mistakes = []
    for place, wanted in enumerate(options.pools):
        option = f"ip_pools[{place}]" if options.ip_pools else "ip_pool"
        pool = next((pool for pool in there if wanted in (pool.id, pool.name)), None)
        if pool is None:
            mistakes.append(Mistake(option, f"must be a pool that the silo may use; there are: {names}", str(wanted)))
        elif options.ip_version not in (pool.ip_version, "dual"):
            rule = f"must be a pool of IP{options.ip_version} addresses, as ip_version says"
            mistakes.append(Mistake(option, rule, f"{wanted} ({pool.ip_version})"))
    return mistakes


def mistakes_in_amounts(options: OxideOptions, found: Found) -> list[Mistake]:
    """What the silo's quota never has room for, or (unless the build is to wait for it) has none for now."""
    if found.utilization is None:
        return []
    quota, used = found.utilization.capacity, found.utilization.provisioned
    # A snapshot counts as much as its disk.
    boot = options.boot_disk_size * (1 if options.skip_create_image else 2)
    storage = boot + sum(found.size_of(disk) for disk in options.extra_disks)
    mistakes = []
    for option, what, unit, need, most, taken in (
        ("cpus", "CPUs", 1, options.cpus, quota.cpus, used.cpus),
        ("memory", "GiB of memory", GIB, options.memory, quota.memory, used.memory),
        ("boot_disk_size", "GiB of storage, the snapshot's included", GIB, storage, quota.storage, used.storage),
    ):
        asks = f"makes the build need {need / unit:g} {what}"
        if need > most:
            mistakes.append(Mistake(option, f"{asks}, and the silo's quota is {most / unit:g}"))
        elif need > most - taken and not options.capacity_retry:
            free = max(most - taken, 0) / unit
            rule = f"{asks}, and {free:g} of the silo's {most / unit:g} are free: free some, or set capacity_retry"
            mistakes.append(Mistake(option, rule))
    return mistakes
