"""The calls of the API: which request is what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from emulators.outscale import bodies, filters, images, links, snapshots, tags, vms, volumes, wire
from emulators.outscale.accounts import Account
from emulators.outscale.records import Image, Resource, Snapshot
from emulators.outscale.region import OutscaleRegion
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


ACTIONS: dict[str, Action] = {}

Handler = Callable[[Call, B], wire.Json]


def _action(name: str, body: type[B]) -> Callable[[Handler[B]], Handler[B]]:
    def register(handler: Handler[B]) -> Handler[B]:
        ACTIONS[name] = Action(body, handler)
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
        "Email": f"{account_id}@example.com",
        "FirstName": "Image",
        "LastName": "Baker",
        "ZipCode": "92210",
    }
    return {"Accounts": [view]}


@_action("ReadRegions", bodies.Request)
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
    found = filters.apply(every, filters.SUBREGIONS, body.filters)
    return wire.page("Subregions", found, body, lambda view: view, lambda view: [view["SubregionName"]])


@_action("ReadVms", bodies.Read)
def _vms(call: Call, body: bodies.Read) -> wire.Json:
    every = [vms.view(call.region, vm) for vm in call.region.vms.within(call.account.account_id)]
    found = filters.apply(every, filters.VMS, body.filters)
    return wire.page("Vms", found, body, lambda view: view, lambda view: [view["VmId"]])


# Volumes


def _age(record: Resource) -> list[str]:
    return [wire.date(record.creation_date), record.id]


@_action("CreateVolume", bodies.CreateVolume)
def _create_volume(call: Call, body: bodies.CreateVolume) -> wire.Json:
    return {"Volume": wire.volume(volumes.create(call.region, call.account, body, call.struck))}


@_action("ReadVolumes", bodies.Read)
def _read_volumes(call: Call, body: bodies.Read) -> wire.Json:
    found = filters.apply(call.region.volumes.within(call.account.account_id), filters.VOLUMES, body.filters)
    return wire.page("Volumes", found, body, wire.volume, _age)


@_action("UpdateVolume", bodies.UpdateVolume)
def _update_volume(call: Call, body: bodies.UpdateVolume) -> wire.Json:
    return {"Volume": wire.volume(volumes.update(call.region, call.account, body))}


@_action("LinkVolume", bodies.LinkVolume)
def _link_volume(call: Call, body: bodies.LinkVolume) -> wire.Json:
    links.link(call.region, call.account, body, call.struck)
    return {}


@_action("UnlinkVolume", bodies.UnlinkVolume)
def _unlink_volume(call: Call, body: bodies.UnlinkVolume) -> wire.Json:
    links.unlink(call.region, call.account, body)
    return {}


@_action("DeleteVolume", bodies.DeleteVolume)
def _delete_volume(call: Call, body: bodies.DeleteVolume) -> wire.Json:
    volumes.delete(call.region, call.account, body.volume_id)
    return {}


# Snapshots


@_action("CreateSnapshot", bodies.CreateSnapshot)
def _create_snapshot(call: Call, body: bodies.CreateSnapshot) -> wire.Json:
    return {"Snapshot": wire.snapshot(snapshots.create(call.region, call.account, body, call.struck))}


@_action("ReadSnapshots", bodies.Read)
def _read_snapshots(call: Call, body: bodies.Read) -> wire.Json:
    seen: list[Snapshot] = [s for s in call.region.snapshots if s.is_seen_by(call.account.account_id)]
    return wire.page("Snapshots", filters.apply(seen, filters.SNAPSHOTS, body.filters), body, wire.snapshot, _age)


@_action("UpdateSnapshot", bodies.UpdateSnapshot)
def _update_snapshot(call: Call, body: bodies.UpdateSnapshot) -> wire.Json:
    return {"Snapshot": wire.snapshot(snapshots.update(call.region, call.account, body))}


@_action("DeleteSnapshot", bodies.DeleteSnapshot)
def _delete_snapshot(call: Call, body: bodies.DeleteSnapshot) -> wire.Json:
    snapshots.delete(call.region, call.account, body.snapshot_id)
    return {}


# OMIs


@_action("CreateImage", bodies.CreateImage)
def _create_image(call: Call, body: bodies.CreateImage) -> wire.Json:
    return {"Image": wire.image(images.create(call.region, call.account, body, call.struck))}


@_action("ReadImages", bodies.Read)
def _read_images(call: Call, body: bodies.Read) -> wire.Json:
    seen: list[Image] = [i for i in call.region.images if i.is_seen_by(call.account.account_id)]
    return wire.page("Images", filters.apply(seen, filters.IMAGES, body.filters), body, wire.image, _age)


@_action("UpdateImage", bodies.UpdateImage)
def _update_image(call: Call, body: bodies.UpdateImage) -> wire.Json:
    return {"Image": wire.image(images.update(call.region, call.account, body))}


@_action("DeleteImage", bodies.DeleteImage)
def _delete_image(call: Call, body: bodies.DeleteImage) -> wire.Json:
    images.delete(call.region, call.account, body.image_id)
    return {}


# Tags


@_action("CreateTags", bodies.ChangeTags)
def _create_tags(call: Call, body: bodies.ChangeTags) -> wire.Json:
    tags.create(call.region, call.account, body)
    return {}


@_action("DeleteTags", bodies.ChangeTags)
def _delete_tags(call: Call, body: bodies.ChangeTags) -> wire.Json:
    tags.delete(call.region, call.account, body)
    return {}


@_action("ReadTags", bodies.Read)
def _read_tags(call: Call, body: bodies.Read) -> wire.Json:
    found = filters.apply(tags.read(call.region, call.account), filters.TAGS, body.filters)
    return wire.page("Tags", found, body, lambda view: view, lambda view: [view["ResourceId"], view["Key"]])
