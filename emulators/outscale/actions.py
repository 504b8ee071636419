"""The calls of the API: which request is what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from emulators.outscale import (
    bodies,
    errors,
    filters,
    images,
    links,
    pages,
    quotas,
    searchable,
    snapshots,
    tags,
    values,
    vms,
    volumes,
    wire,
)
from emulators.outscale.accounts import Account
from emulators.outscale.records import Image, Resource, Snapshot
from emulators.outscale.region import OutscaleRegion
from emulators.outscale.shelves import Shelf, age
from emulators.region.faults import Struck

B = TypeVar("B", bound=bodies.Request)
R = TypeVar("R", bound=Resource)


@dataclass(frozen=True)
class Call:
    """One request of an account."""

    region: OutscaleRegion
    account: Account
    struck: Struck


@dataclass(frozen=True)
class Action:
    """One call of the API."""

    body: type[bodies.Request]
    handler: Callable[[Call, Any], wire.Json]
    is_open: bool
    """Whether it takes no signature."""


ACTIONS: dict[str, Action] = {}

Handler = Callable[[Call, B], wire.Json]


def _action(name: str, body: type[B], *, is_open: bool = False) -> Callable[[Handler[B]], Handler[B]]:
    def register(handler: Handler[B]) -> Handler[B]:
        ACTIONS[name] = Action(body, handler, is_open)
        return handler

    return register


# The account and the place


@_action("ReadAccounts", bodies.Request)
def _accounts(call: Call, _: bodies.Request) -> wire.Json:
    account_id = call.account.account_id
    view = {
        "AccountId": account_id,
        "AdditionalEmails": [],
        "City": "Saint-Cloud",
        "CompanyName": "Region in a box",
        "Country": "France",
        "CustomerId": account_id,
        "Email": call.account.login,
        "FirstName": "Image",
        "LastName": "Baker",
        "ZipCode": "92210",
    }
    return {"Accounts": [view]}


@_action("CheckAuthentication", bodies.CheckAuthentication)
def _check_authentication(call: Call, body: bodies.CheckAuthentication) -> wire.Json:
    if (body.login, body.password) != (call.account.login, call.account.password):
        raise errors.invalid_value(errors.WRONG_LOGIN, "Login or Password is wrong.")
    return {}


@_action("ReadQuotas", bodies.Read)
def _quotas(call: Call, body: bodies.Read) -> wire.Json:
    found = filters.apply(quotas.views(call.region, call.account.account_id), searchable.QUOTAS, body.filters)
    content = pages.of_list("QuotaTypes", found, body, lambda view: view, lambda view: [view["Name"]])
    shown = content["QuotaTypes"]
    return {**content, "QuotaTypes": [{"QuotaType": "global", "Quotas": shown}] if shown else []}


@_action("ReadRegions", bodies.Request, is_open=True)
def _regions(call: Call, _: bodies.Request) -> wire.Json:
    name = call.region.place.region
    return {"Regions": [{"RegionName": name, "Endpoint": f"api.{name}.outscale.com"}]}


@_action("ReadSubregions", bodies.Read)
def _subregions(call: Call, body: bodies.Read) -> wire.Json:
    place = call.region.place
    every = [
        {"SubregionName": name, "RegionName": place.region, "State": "available", "LocationCode": "PAR1"}
        for name in place.subregions
    ]
    found = filters.apply(every, searchable.SUBREGIONS, body.filters)
    return pages.of_list("Subregions", found, body, lambda view: view, lambda view: [view["SubregionName"]])


@_action("ReadVms", bodies.Read)
def _vms(call: Call, body: bodies.Read) -> wire.Json:
    values.check_vm_ids(filters.named(body.filters, "VmIds") or [])
    found = filters.apply(vms.views(call.region, call.account), searchable.VMS, body.filters)
    return pages.of_list("Vms", found, body, lambda view: view, lambda view: [view["VmId"]])


# Volumes


def _place(record: Resource) -> pages.Place:
    return pages.of_age(age(record))


def _visible(call: Call, shelf: Shelf[R], body: bodies.Read, ids: str) -> Iterator[R]:
    """What the account sees, from behind the last page. What is asked for by id needs no search."""
    after, account_id = pages.behind_age(body), call.account.account_id
    wanted = filters.named(body.filters, ids)
    if wanted is None:
        return shelf.visible(account_id, after)
    found = (shelf.get(record_id) for record_id in dict.fromkeys(wanted))
    seen = [record for record in found if record is not None and record.is_seen_by(account_id)]
    return (record for record in sorted(seen, key=age) if after is None or age(record) > after)


@_action("CreateVolume", bodies.CreateVolume)
def _create_volume(call: Call, body: bodies.CreateVolume) -> wire.Json:
    return {"Volume": wire.volume(volumes.create(call.region, call.account, body, call.struck))}


@_action("ReadVolumes", bodies.Read)
def _read_volumes(call: Call, body: bodies.Read) -> wire.Json:
    found = filters.apply(_visible(call, call.region.volumes, body, "VolumeIds"), searchable.VOLUMES, body.filters)
    return pages.page("Volumes", found, body, wire.volume, _place)


@_action("UpdateVolume", bodies.UpdateVolume)
def _update_volume(call: Call, body: bodies.UpdateVolume) -> wire.Json:
    return {"Volume": wire.volume(volumes.update(call.region, call.account, body))}


@_action("LinkVolume", bodies.LinkVolume)
def _link_volume(call: Call, body: bodies.LinkVolume) -> wire.Json:
    links.link(call.region, call.account, body, call.struck)
    return {}


@_action("UnlinkVolume", bodies.UnlinkVolume)
def _unlink_volume(call: Call, body: bodies.UnlinkVolume) -> wire.Json:
    links.unlink(call.region, call.account, body, call.struck)
    return {}


@_action("DeleteVolume", bodies.DeleteVolume)
def _delete_volume(call: Call, body: bodies.DeleteVolume) -> wire.Json:
    volumes.delete(call.region, call.account, body.volume_id, call.struck)
    return {}


# Snapshots


def _snapshot(call: Call, record: Snapshot) -> wire.Json:
    return wire.snapshot(record, call.region.alias(record.account_id))


@_action("CreateSnapshot", bodies.CreateSnapshot)
def _create_snapshot(call: Call, body: bodies.CreateSnapshot) -> wire.Json:
    return {"Snapshot": _snapshot(call, snapshots.create(call.region, call.account, body, call.struck))}


@_action("ReadSnapshots", bodies.Read)
def _read_snapshots(call: Call, body: bodies.Read) -> wire.Json:
    region = call.region
    seen = _visible(call, region.snapshots, body, "SnapshotIds")
    found = filters.apply(seen, searchable.snapshots(region.alias), body.filters)
    return pages.page("Snapshots", found, body, partial(_snapshot, call), _place)


@_action("UpdateSnapshot", bodies.UpdateSnapshot)
def _update_snapshot(call: Call, body: bodies.UpdateSnapshot) -> wire.Json:
    return {"Snapshot": _snapshot(call, snapshots.update(call.region, call.account, body))}


@_action("DeleteSnapshot", bodies.DeleteSnapshot)
def _delete_snapshot(call: Call, body: bodies.DeleteSnapshot) -> wire.Json:
    snapshots.delete(call.region, call.account, body.snapshot_id)
    return {}


# OMIs


def _image(call: Call, record: Image) -> wire.Json:
    return wire.image(record, call.region.alias(record.account_id))


@_action("CreateImage", bodies.CreateImage)
def _create_image(call: Call, body: bodies.CreateImage) -> wire.Json:
    return {"Image": _image(call, images.create(call.region, call.account, body, call.struck))}


@_action("ReadImages", bodies.Read)
def _read_images(call: Call, body: bodies.Read) -> wire.Json:
    region = call.region
    seen = _visible(call, region.images, body, "ImageIds")
    found = filters.apply(seen, searchable.images(region.alias), body.filters)
    return pages.page("Images", found, body, partial(_image, call), _place)


@_action("UpdateImage", bodies.UpdateImage)
def _update_image(call: Call, body: bodies.UpdateImage) -> wire.Json:
    return {"Image": _image(call, images.update(call.region, call.account, body))}


@_action("DeleteImage", bodies.DeleteImage)
def _delete_image(call: Call, body: bodies.DeleteImage) -> wire.Json:
    images.delete(call.region, call.account, body.image_id)
    return {}


# Tags


@_action("CreateTags", bodies.CreateTags)
def _create_tags(call: Call, body: bodies.CreateTags) -> wire.Json:
    tags.create(call.region, call.account, body)
    return {}


@_action("DeleteTags", bodies.DeleteTags)
def _delete_tags(call: Call, body: bodies.DeleteTags) -> wire.Json:
    tags.delete(call.region, call.account, body)
    return {}


@_action("ReadTags", bodies.Read)
def _read_tags(call: Call, body: bodies.Read) -> wire.Json:
    found = filters.apply(tags.read(call.region, call.account, body), searchable.TAGS, body.filters)
    return pages.page("Tags", found, body, lambda tag: tag[1], lambda tag: tag[0])
