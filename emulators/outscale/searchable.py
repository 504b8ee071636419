"""What each listing call can be filtered by: the names of the API document, and what they look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emulators.outscale.filters import Filter, Getter, Table, Value, always, flag, glob, moment, number, text
from emulators.outscale.records import Image, Link, Mapping, Resource, Shared, Volume

PRODUCTS = {"0001": "Linux"}
"""Product codes and their names, as `ReadProductTypes` has them."""


def _tags(record: Resource) -> list[str]:
    return [f"{key}={value}" for key, value in record.tags.items()]


def _allowed(record: Shared) -> list[str]:
    return record.permissions.account_ids


def _global(record: Shared) -> bool:
    return record.permissions.global_permission


def _created(record: Resource) -> Value:
    return record.creation_date


_TAGGED: Table = {
    "TagKeys": text(lambda r: list(r.tags)),
    "TagValues": text(lambda r: list(r.tags.values())),
    "Tags": text(_tags),
}


def _of_mappings(get: Callable[[Mapping], Value]) -> Getter:
    return lambda image: [get(mapping) for mapping in image.mappings]


def _products(image: Image) -> list[Value]:
    return [PRODUCTS.get(code) for code in image.product_codes]


def images(alias: Callable[[str], str | None]) -> Table:
    """`FiltersImage`; `alias` tells the alias of an account."""
    return {
        **_TAGGED,
        "AccountAliases": text(lambda i: alias(i.account_id)),
        "AccountIds": text(lambda i: i.account_id),
        "Architectures": text(lambda i: i.architecture),
        "BlockDeviceMappingDeleteOnVmDeletion": flag(_of_mappings(lambda m: m.delete_on_vm_deletion)),
        "BlockDeviceMappingDeviceNames": text(_of_mappings(lambda m: m.device)),
        "BlockDeviceMappingSnapshotIds": text(_of_mappings(lambda m: m.snapshot_id)),
        "BlockDeviceMappingVolumeSizes": number(_of_mappings(lambda m: m.size)),
        "BlockDeviceMappingVolumeTypes": text(_of_mappings(lambda m: m.volume_type)),
        "BootModes": text(lambda i: i.boot_modes),
        "Descriptions": text(lambda i: i.description),
        "FileLocations": glob(lambda i: f"{alias(i.account_id) or i.account_id}/{i.name}"),
        "Hypervisors": text(always("xen")),
        "ImageIds": text(lambda i: i.id),
        "ImageNames": glob(lambda i: i.name),
        "PermissionsToLaunchAccountIds": text(_allowed),
        "PermissionsToLaunchGlobalPermission": flag(_global),
        "ProductCodeNames": text(_products),
        "ProductCodes": text(lambda i: i.product_codes),
        "RootDeviceNames": text(lambda i: i.root_device),
        # Clients of older days ask for the other name.
        "RootDeviceTypes": text(always(("bsu", "ebs"))),
        "SecureBoot": flag(always(False)),
        "States": text(lambda i: i.state),
        "TpmMandatory": flag(lambda i: i.tpm_mandatory),
        "VirtualizationTypes": text(always("hvm")),
    }


def _of_link(get: Callable[[Link], Value]) -> Getter:
    def values(volume: Volume) -> list[Value]:
        return [get(volume.link)] if volume.link else []

    return values


VOLUMES: Table = {
    **_TAGGED,
    "ClientTokens": text(lambda v: v.name or None),
    "CreationDates": moment(_created),
    "LinkVolumeDeleteOnVmDeletion": flag(_of_link(lambda link: link.delete_on_vm_deletion)),
    "LinkVolumeDeviceNames": text(_of_link(lambda link: link.device)),
    "LinkVolumeLinkDates": moment(_of_link(lambda link: link.date)),
    "LinkVolumeLinkStates": text(_of_link(lambda link: link.state)),
    "LinkVolumeVmIds": text(_of_link(lambda link: link.vm_id)),
    "SnapshotIds": text(lambda v: v.snapshot_id),
    "SubregionNames": text(lambda v: v.subregion),
    "VolumeIds": text(lambda v: v.id),
    "VolumeSizes": number(lambda v: v.size),
    "VolumeStates": text(lambda v: v.state),
    "VolumeTypes": text(lambda v: v.volume_type),
}


def snapshots(alias: Callable[[str], str | None]) -> Table:
    """`FiltersSnapshot`; `alias` tells the alias of an account."""
    return {
        **_TAGGED,
        "AccountAliases": text(lambda s: alias(s.account_id)),
        "AccountIds": text(lambda s: s.account_id),
        "ClientTokens": text(lambda s: s.name or None),
        "Descriptions": text(lambda s: s.description),
        "FromCreationDate": Filter("since", _created),
        "PermissionsToCreateVolumeAccountIds": text(_allowed),
        "PermissionsToCreateVolumeGlobalPermission": flag(_global),
        "Progresses": number(lambda s: s.progress),
        "SnapshotIds": text(lambda s: s.id),
        "States": text(lambda s: s.state),
        "ToCreationDate": Filter("until", _created),
        "VolumeIds": text(lambda s: s.volume_id),
        "VolumeSizes": number(lambda s: s.volume_size),
    }


def _key(name: str) -> Filter:
    return text(lambda view: view[name])


def _of_tag(name: str) -> Filter:
    return text(lambda entry: entry[1][name])


TAGS: Table = {name: _of_tag(name.removesuffix("s")) for name in ("Keys", "ResourceIds", "ResourceTypes", "Values")}
"""For tags with their places, as `tags` reads them."""

SUBREGIONS: Table = {name: _key(name.removesuffix("s")) for name in ("RegionNames", "States", "SubregionNames")}

QUOTAS: Table = {
    "Collections": _key("QuotaCollection"),
    "QuotaNames": _key("Name"),
    "QuotaTypes": text(always("global")),
    "ShortDescriptions": _key("ShortDescription"),
}


def _mapped(name: str) -> Getter:
    return lambda view: [mapping["Bsu"][name] for mapping in view["BlockDeviceMappings"]]


def _tagged(get: Callable[[dict[str, Any]], str]) -> Filter:
    return text(lambda view: [get(tag) for tag in view["Tags"]])


_NOT_IN_A_NET: Table = {
    name: text(always(()))
    for name in (
        "ClientTokens",
        "KeypairNames",
        "Lifecycles",
        "NetIds",
        "NicAccountIds",
        "NicDescriptions",
        "NicLinkNicLinkNicIds",
        "NicLinkNicStates",
        "NicLinkNicVmAccountIds",
        "NicLinkNicVmIds",
        "NicLinkPublicIpAccountIds",
        "NicLinkPublicIpLinkPublicIpIds",
        "NicLinkPublicIpPublicIpIds",
        "NicLinkPublicIpPublicIps",
        "NicMacAddresses",
        "NicNetIds",
        "NicNicIds",
        "NicPrivateIpsLinkPublicIpAccountIds",
        "NicPrivateIpsLinkPublicIpIds",
        "NicPrivateIpsPrivateIps",
        "NicSecurityGroupIds",
        "NicSecurityGroupNames",
        "NicStates",
        "NicSubnetIds",
        "NicSubregionNames",
        "Platforms",
        "PublicIps",
        "SecurityGroupIds",
        "SecurityGroupNames",
        "StateReasonMessages",
        "SubnetIds",
        "VmSecurityGroupIds",
        "VmSecurityGroupNames",
    )
} | {
    "IsSourceDestChecked": flag(always(())),
    "NicIsSourceDestChecked": flag(always(())),
    "NicLinkNicDeleteOnVmDeletion": flag(always(())),
    "NicLinkNicDeviceNumbers": number(always(())),
    "NicLinkNicLinkNicDates": moment(always(())),
    "NicPrivateIpsPrimaryIp": flag(always(())),
    "StateReasonCodes": number(always(())),
}
"""What a VM of this region has not: it is in no Net, and has no key pair."""

_RUNNING = 16

VMS: Table = {
    **_NOT_IN_A_NET,
    "Architectures": _key("Architecture"),
    "BlockDeviceMappingDeleteOnVmDeletion": flag(_mapped("DeleteOnVmDeletion")),
    "BlockDeviceMappingDeviceNames": text(lambda v: [m["DeviceName"] for m in v["BlockDeviceMappings"]]),
    "BlockDeviceMappingLinkDates": moment(_mapped("LinkDate")),
    "BlockDeviceMappingStates": text(_mapped("State")),
    "BlockDeviceMappingVolumeIds": text(_mapped("VolumeId")),
    "BootModes": _key("BootMode"),
    "CreationDates": moment(lambda v: v["CreationDate"]),
    "ImageIds": _key("ImageId"),
    "LaunchNumbers": number(lambda v: v["LaunchNumber"]),
    "PrivateIps": _key("PrivateIp"),
    "ProductCodes": text(lambda v: v["ProductCodes"]),
    "ReservationIds": _key("ReservationId"),
    "RootDeviceNames": _key("RootDeviceName"),
    "RootDeviceTypes": text(always(("bsu", "ebs"))),
    "StateReasons": _key("StateReason"),
    "SubregionNames": text(lambda v: v["Placement"]["SubregionName"]),
    "TagKeys": _tagged(lambda tag: tag["Key"]),
    "TagValues": _tagged(lambda tag: tag["Value"]),
    "Tags": _tagged(lambda tag: f"{tag['Key']}={tag['Value']}"),
    "Tenancies": text(lambda v: v["Placement"]["Tenancy"]),
    "TpmEnabled": flag(lambda v: v["TpmEnabled"]),
    "VmIds": _key("VmId"),
    "VmStateCodes": number(always(_RUNNING)),
    "VmStateNames": _key("State"),
    "VmTypes": _key("VmType"),
}
