"""Anti-affinity groups: instances that shall not share a sled."""

from __future__ import annotations

from emulators.oxide import errors, quotas
from emulators.oxide.records import AntiAffinityGroup, Instance, InstanceState
from emulators.oxide.region import OxideRegion

_MAX_MEMBERS = 32


def of_instance(region: OxideRegion, instance: Instance) -> list[AntiAffinityGroup]:
    """The groups that an instance is in."""
    return [group for group in region.groups.within(instance.project_id) if instance.id in group.members]


def check_room(group: AntiAffinityGroup) -> None:
    """Refuse another member of a group that is full."""
    if len(group.members) >= _MAX_MEMBERS:
        raise errors.invalid_request(f"an anti-affinity group may not have more than {_MAX_MEMBERS} members")


def add(region: OxideRegion, group: AntiAffinityGroup, instance: Instance) -> None:
    """Take an instance into a group. One that is in it stays."""
    if instance.id not in group.members:
        check_room(group)
        group.members.append(instance.id)
        region.groups.save(group)


def remove(region: OxideRegion, group: AntiAffinityGroup, instance: Instance) -> None:
    """Let an instance leave a group."""
    group.members.remove(instance.id)
    region.groups.save(group)


def check_start(region: OxideRegion, instance: Instance) -> None:
    """Refuse a start that a group with the policy `fail` does not allow: there is no sled without a member.

    Raises:
        ApiError: 507.
    """
    for group in of_instance(region, instance):
        if group.policy == "fail":
            others = [region.instances.get(member) for member in group.members if member != instance.id]
            up = [other for other in others if other and other.state not in {InstanceState.STOPPED, "failed"}]
            if len(up) >= region.sleds:
                raise errors.no_capacity(quotas.CAPACITY["sleds"])
