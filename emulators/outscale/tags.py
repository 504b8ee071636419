"""Tags of all kinds of resources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from emulators.outscale import bodies, errors, pages, wire
from emulators.outscale.accounts import Account
from emulators.outscale.records import Image, Resource, Snapshot, Vm, Volume
from emulators.outscale.region import OutscaleRegion
from emulators.outscale.shelves import Age, Shelf, age

_MOST = 50
_OTHERS = re.compile(
    r"(cgw|dopt|fgpu|igw|key|nat|vpce|vpcx|pcx|vpc|eni|image-export|eipalloc|rtb|sg|snap-export|subnet|vgw|vpn)-[0-9a-f]+"
)
"""What else the cloud has that can be tagged. This region has none of it."""


def _find(region: OutscaleRegion, account: Account, resource_id: str) -> Resource:
    match resource_id.partition("-")[0]:
        case "vol":
            return region.volume(account, resource_id)
        case "snap" if not resource_id.startswith("snap-export"):
            return region.snapshot(account, resource_id, own=True)
        case "ami":
            return region.image(account, resource_id, own=True)
        case "i":
            return region.vm(account, resource_id)
    if _OTHERS.fullmatch(resource_id):
        raise errors.no_such("resource", resource_id)
    raise errors.invalid_value(errors.INVALID_ID, f"'{resource_id}' is no id of a resource.")


def _save(region: OutscaleRegion, resource: Resource) -> None:
    if isinstance(resource, Volume):
        region.volumes.save(resource)
    elif isinstance(resource, Snapshot):
        region.snapshots.save(resource)
    elif isinstance(resource, Image):
        region.images.save(resource)
    elif isinstance(resource, Vm):
        region.vms.save(resource)


def create(region: OutscaleRegion, account: Account, body: bodies.CreateTags) -> None:
    """Give resources tags; a key that is there gets the new value. All of them, or none.

    Raises:
        ApiError: one of the resources does not exist, or would have too many tags.
    """
    resources = [_find(region, account, resource_id) for resource_id in body.resource_ids]
    new = {tag.key: tag.value for tag in body.tags}
    if any(len(resource.tags | new) > _MOST for resource in resources):
        raise errors.too_many(errors.TOO_MANY_TAGS)
    for resource in resources:
        resource.tags |= new
        _save(region, resource)


def delete(region: OutscaleRegion, account: Account, body: bodies.DeleteTags) -> None:
    """Take tags away: those of a key that have the value, if one is given. One that is not there is no error."""
    resources = [_find(region, account, resource_id) for resource_id in body.resource_ids]
    for resource in resources:
        for tag in body.tags:
            if tag.value in {None, resource.tags.get(tag.key)}:
                resource.tags.pop(tag.key, None)
        _save(region, resource)


def read(region: OutscaleRegion, account: Account, body: bodies.Read) -> Iterator[tuple[pages.Place, wire.Json]]:
    """Every tag of an account, as `Tag` and where it is in the list, from behind the last page.

    Raises:
        ApiError: the page's token is none of this list.
    """
    last = pages.behind(body)
    start = _start(last)

    def tags() -> Iterator[tuple[pages.Place, wire.Json]]:
        for number, (kind, shelf) in enumerate(_kinds(region)):
            if start is not None and number < start[0]:
                continue
            for resource in _own(shelf, account, start[1] if start is not None and number == start[0] else None):
                for key in sorted(resource.tags):
                    place = [str(number), *pages.of_age(age(resource)), key]
                    if last is None or place > last:
                        tag = {"Key": key, "Value": resource.tags[key]}
                        yield place, {**tag, "ResourceId": resource.id, "ResourceType": kind}

    return tags()


def _kinds(
    region: OutscaleRegion,
) -> tuple[tuple[str, Shelf[Vm] | Shelf[Volume] | Shelf[Snapshot] | Shelf[Image]], ...]:
    return (
        ("instance", region.vms),
        ("volume", region.volumes),
        ("snapshot", region.snapshots),
        ("image", region.images),
    )


def _own(
    shelf: Shelf[Vm] | Shelf[Volume] | Shelf[Snapshot] | Shelf[Image], account: Account, since: Age | None
) -> Iterator[Resource]:
    return (
        resource for resource in shelf.visible(account.account_id, since) if resource.account_id == account.account_id
    )


def _start(last: pages.Place | None) -> tuple[int, Age] | None:
    """The kind and age of the resource before the one to begin with: the last page may have ended within its tags."""
    if last is None:
        return None
    try:
        number, moment, resource_id, _ = last
        made = datetime.fromisoformat(moment)
        if made.tzinfo is None:
            raise ValueError(moment)
        # An id before its own: the page may have ended between two tags of one resource.
        return int(number), (made, resource_id[:-1])
    except ValueError:
        raise errors.invalid_value(errors.INVALID_VALUE, "NextPageToken is not valid.") from None
