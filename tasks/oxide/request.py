"""The request for a build's instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from blocks.oxide.models import Image, Snapshot
from blocks.oxide.requests import (
    BlankDisk,
    DiskOfSnapshot,
    DiskSource,
    DistributedDisk,
    EphemeralIp,
    FloatingIpOfInstance,
    ImageSource,
    InstanceCreate,
    NetworkInterface,
    NetworkInterfaces,
    NewDisk,
)
from tasks.oxide.found import Found
from tasks.oxide.instance_options import ExtraDisk, FloatingIpChoice
from tasks.oxide.options import OxideOptions
from tasks.oxide.plan import encoded, ephemeral
from tasks.oxide.run import OxideRun


def instance_request(
    run: OxideRun, options: OxideOptions, found: Found, source: Image, values: Mapping[str, str], base: Path
) -> InstanceCreate:
    """The instance to launch, but for the temporary key. Instance, disks and interface carry the run's mark."""
    name, mark = options.instance_name(run, values), str(run.mark)
    interface = NetworkInterface(
        name=name, description=mark, vpc_name=options.vpc, subnet_name=options.subnet, ip_config=options.ip_stack
    )
    return InstanceCreate(
        name=name,
        description=mark,
        hostname=options.host_name(run, values),
        memory=options.memory,
        ncpus=options.cpus,
        boot_disk=NewDisk(
            name=name,
            description=mark,
            size=options.boot_disk_size,
            disk_backend=DistributedDisk(disk_source=ImageSource(image_id=source.id)),
        ),
        disks=[_extra_disk(run, disk, found) for disk in options.extra_disks],
        network_interfaces=NetworkInterfaces(params=[interface]),
        external_ips=_external_ips(options),
        ssh_public_keys=_ids(options.ssh_public_keys, found.keys),
        anti_affinity_groups=_ids(options.anti_affinity_groups, found.groups),
        user_data=encoded(options.given_user_data(base)),
    )


def _ids(wanted: Sequence[str], found: Mapping[str, str]) -> list[str]:
    """In the definition's order, each once."""
    return list(dict.fromkeys(found[name] for name in wanted if name in found))


def _external_ips(options: OxideOptions) -> list[EphemeralIp | FloatingIpOfInstance]:
    if isinstance(options.external_ip, FloatingIpChoice):
        return [FloatingIpOfInstance(floating_ip=options.external_ip.floating)]
    if options.external_ip == "none":
        return []
    return [ephemeral(options.pools[0], options.external_version)]


def _extra_disk(run: OxideRun, disk: ExtraDisk, found: Found) -> NewDisk:
    match found.disk_sources.get(disk.name):
        case Image(id=image_id):
            source: DiskSource = ImageSource(image_id=image_id)
        case Snapshot(id=snapshot_id):
            source = DiskOfSnapshot(snapshot_id=snapshot_id)
        case _:
            source = BlankDisk(block_size=disk.block_size)
    return NewDisk(
        name=run.owned_name(disk.name),
        description=str(run.mark),
        size=found.size_of(disk),
        disk_backend=DistributedDisk(disk_source=source),
    )
