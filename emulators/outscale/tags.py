"""Tags of all kinds of resources."""

from __future__ import annotations

from emulators.outscale import bodies, errors, wire
from emulators.outscale.accounts import Account
from emulators.outscale.records import Image, Resource, Snapshot, Volume
from emulators.outscale.region import OutscaleRegion

_MOST = 50


def _find(region: OutscaleRegion, account: Account, resource_id: str) -> Resource:
    match resource_id.partition("-")[0]:
        case "vol":
            return region.volume(account, resource_id)
        case "snap":
            return region.snapshot(account, resource_id, own=True)
        case "ami":
            return region.image(account, resource_id, own=True)
        case "i":
            return region.vm(account, resource_id)
    raise errors.invalid_value(errors.WRONG_RESOURCE_TYPE, f"'{resource_id}' is no resource that can be tagged.")


def _save(region: OutscaleRegion, resource: Resource) -> None:
    if isinstance(resource, Volume):
        region.volumes.save(resource)
    elif isinstance(resource, Snapshot):
        region.snapshots.save(resource)
    elif isinstance(resource, Image):
        region.images.save(resource)
    else:
        region.vms.save(region.vm(region.owner, resource.id))


def create(region: OutscaleRegion, account: Account, body: bodies.ChangeTags) -> None:
    """Give resources tags; a key that is there gets the new value. All of them, or none.

    Raises:
        ApiError: one of the resources does not exist, or would have too many tags.
    """
    resources = [_find(region, account, resource_id) for resource_id in body.resource_ids]
    new = {tag.key: tag.value for tag in body.tags}
    if any(len(resource.tags | new) > _MOST for resource in resources):
        raise errors.too_many(errors.QUOTAS["CreateTags"])
    for resource in resources:
        resource.tags |= new
        _save(region, resource)


def delete(region: OutscaleRegion, account: Account, body: bodies.ChangeTags) -> None:
    """Take tags away that have both key and value. One that is not there is no error."""
    resources = [_find(region, account, resource_id) for resource_id in body.resource_ids]
    for resource in resources:
        for tag in body.tags:
            if resource.tags.get(tag.key) == tag.value:
                del resource.tags[tag.key]
        _save(region, resource)


def read(region: OutscaleRegion, account: Account) -> list[wire.Json]:
    """Every tag of an account, as `Tag`."""
    kinds = (("volume", region.volumes), ("snapshot", region.snapshots), ("image", region.images), ("vm", region.vms))
    return [
        {"Key": key, "Value": value, "ResourceId": resource.id, "ResourceType": kind}
        for kind, collection in kinds
        for resource in collection.within(account.account_id)
        for key, value in resource.tags.items()
    ]
