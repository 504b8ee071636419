"""What silos use and may use.

Disks and snapshots are charged when they are made, CPUs and memory when an instance starts. The texts are the control
plane's.
"""

from __future__ import annotations

from emulators.oxide import errors
from emulators.oxide.records import Counts, Instance, InstanceState, Silo
from emulators.oxide.region import OxideRegion

_CHARGED = {InstanceState.STARTING, InstanceState.RUNNING, InstanceState.REBOOTING, InstanceState.STOPPING}

CAPACITY = {
    "storage": "Storage Limit Exceeded: Not enough storage to complete request. Either remove unneeded disks and "
    "snapshots to free up resources or contact the rack operator to request a capacity increase.",
    "cpus": "vCPU Limit Exceeded: Not enough vCPUs to complete request. Either stop unused instances to free up "
    "resources or contact the rack operator to request a capacity increase.",
    "memory": "Memory Limit Exceeded: Not enough memory to complete request. Either stop unused instances to free up "
    "resources or contact the rack operator to request a capacity increase.",
    "addresses": "No external IP addresses available",
    "sleds": "No sleds can fit the requested instance",
}
"""What a 507 says for want of each."""


def provisioned(region: OxideRegion, silo: Silo) -> Counts:
    """What a silo uses."""
    projects = {project.id for project in region.projects.within(silo.id)}
    up = [i for i in region.instances if i.state in _CHARGED and i.project_id in projects]
    stored = (*region.disks, *region.snapshots)
    return Counts(
        cpus=sum(i.ncpus for i in up),
        memory=sum(i.memory for i in up),
        storage=sum(thing.size for thing in stored if thing.project_id in projects),
    )


def check_storage(region: OxideRegion, silo_id: str, size: int) -> None:
    """Refuse bytes that a silo may not have more of.

    Raises:
        ApiError: 507.
    """
    silo = region.silos.get(silo_id)
    if silo is not None and provisioned(region, silo).storage + size > silo.quotas.storage:
        raise errors.no_capacity(CAPACITY["storage"])


def check_start(region: OxideRegion, instance: Instance) -> None:
    """Refuse the start of an instance whose silo has too few CPUs or too little memory left.

    Raises:
        ApiError: 507.
    """
    silo = region.silos.get(region.silo_of(instance.project_id))
    if silo is None:
        return
    used = provisioned(region, silo)
    if used.cpus + instance.ncpus > silo.quotas.cpus:
        raise errors.no_capacity(CAPACITY["cpus"])
    if used.memory + instance.memory > silo.quotas.memory:
        raise errors.no_capacity(CAPACITY["memory"])
