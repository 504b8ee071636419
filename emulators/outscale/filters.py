"""`Filters` of the calls that list something: every filter must match, with any one of its values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from emulators.outscale import errors
from emulators.outscale.records import Image, Mapping, Resource, Shared, Snapshot, Volume

R = TypeVar("R")
Value = str | int | bool | None
Getter = Callable[[Any], Value | Iterable[Value]]
Table = dict[str, Getter]

_WITH_GLOBS = frozenset({"ImageNames"})
_DATES = frozenset({"CreationDates", "LinkVolumeLinkDates"})


def apply(records: Iterable[R], table: Table, filters: dict[str, Any]) -> list[R]:
    """The records that match.

    Raises:
        ApiError: a filter that the call does not have, or values of the wrong type.
    """
    tests = [_test(table, name, wanted) for name, wanted in filters.items()]
    return [record for record in records if all(test(record) for test in tests)]


def _test(table: Table, name: str, wanted: Any) -> Callable[[Any], bool]:
    getter = table.get(name)
    if getter is None:
        raise errors.invalid_parameter(f"Filters.{name}")
    if name in {"FromCreationDate", "ToCreationDate"}:
        limit = _date(name, wanted)
        if name == "FromCreationDate":
            return lambda record: record.creation_date >= limit
        return lambda record: record.creation_date <= limit
    if isinstance(wanted, bool):
        return lambda record: getter(record) is wanted
    if not isinstance(wanted, list) or not all(isinstance(item, str | int) for item in wanted):
        raise errors.invalid_value(errors.INVALID_TYPE, f"Filters.{name} is a list")
    if name in _DATES:
        wanted = [_date(name, item).isoformat() for item in wanted]
    if name in _WITH_GLOBS:
        return lambda record: any(fnmatchcase(str(getter(record)), str(glob)) for glob in wanted)
    return lambda record: any(value in wanted for value in _values(getter(record)))


def _values(got: Value | Iterable[Value]) -> Iterable[Value]:
    return [got] if isinstance(got, str | int) or got is None else got


def _date(name: str, text: Any) -> datetime:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        raise errors.invalid_value(errors.INVALID_VALUE, f"Filters.{name}: {text!r} is no date") from None


def _tags(record: Resource) -> list[str]:
    return [f"{key}={value}" for key, value in record.tags.items()]


def _always(value: Value | Iterable[Value]) -> Getter:
    return lambda _: value


_TAGGED: Table = {
    "TagKeys": lambda r: list(r.tags),
    "TagValues": lambda r: list(r.tags.values()),
    "Tags": _tags,
}


def _of_mappings(get: Callable[[Mapping], Value]) -> Getter:
    return lambda image: [get(mapping) for mapping in image.mappings]


def _allowed(record: Shared) -> list[str]:
    return record.permissions.account_ids


def _deletes(image: Image) -> bool:
    return any(mapping.delete_on_vm_deletion for mapping in image.mappings)


IMAGES: Table = {
    **_TAGGED,
    "AccountAliases": _always(()),
    "AccountIds": lambda i: i.account_id,
    "Architectures": lambda i: i.architecture,
    "BlockDeviceMappingDeleteOnVmDeletion": _deletes,
    "BlockDeviceMappingDeviceNames": _of_mappings(lambda m: m.device),
    "BlockDeviceMappingSnapshotIds": _of_mappings(lambda m: m.snapshot_id),
    "BlockDeviceMappingVolumeSizes": _of_mappings(lambda m: m.size),
    "BlockDeviceMappingVolumeTypes": _of_mappings(lambda m: m.volume_type),
    "BootModes": lambda i: i.boot_modes,
    "Descriptions": lambda i: i.description,
    "FileLocations": lambda i: f"{i.account_id}/{i.name}",
    "Hypervisors": _always("xen"),
    "ImageIds": lambda i: i.id,
    "ImageNames": lambda i: i.name,
    "PermissionsToLaunchAccountIds": _allowed,
    "PermissionsToLaunchGlobalPermission": lambda i: i.permissions.global_permission,
    "ProductCodeNames": _always(()),
    "ProductCodes": lambda i: i.product_codes,
    "RootDeviceNames": lambda i: i.root_device,
    "RootDeviceTypes": _always("bsu"),
    "SecureBoot": _always(False),
    "States": lambda i: i.state,
    "TpmMandatory": lambda i: i.tpm_mandatory,
    "VirtualizationTypes": _always("hvm"),
}


def _of_link(get: Callable[[Any], Value]) -> Getter:
    def values(volume: Volume) -> list[Value]:
        return [get(volume.link)] if volume.link else []

    return values


def _unlinks(volume: Volume) -> bool:
    return volume.link is not None and volume.link.delete_on_vm_deletion


VOLUMES: Table = {
    **_TAGGED,
    "ClientTokens": lambda v: v.name,
    "CreationDates": lambda v: v.creation_date.isoformat(),
    "LinkVolumeDeleteOnVmDeletion": _unlinks,
    "LinkVolumeDeviceNames": _of_link(lambda link: link.device),
    "LinkVolumeLinkDates": _of_link(lambda link: link.date.isoformat()),
    "LinkVolumeLinkStates": _of_link(lambda link: link.state),
    "LinkVolumeVmIds": _of_link(lambda link: link.vm_id),
    "SnapshotIds": lambda v: v.snapshot_id,
    "SubregionNames": lambda v: v.subregion,
    "VolumeIds": lambda v: v.id,
    "VolumeSizes": lambda v: v.size,
    "VolumeStates": lambda v: v.state,
    "VolumeTypes": lambda v: v.volume_type,
}


def _created(snapshot: Snapshot) -> str:
    return snapshot.creation_date.isoformat()


SNAPSHOTS: Table = {
    **_TAGGED,
    "AccountAliases": _always(()),
    "AccountIds": lambda s: s.account_id,
    "ClientTokens": lambda s: s.name,
    "Descriptions": lambda s: s.description,
    "FromCreationDate": _created,
    "PermissionsToCreateVolumeAccountIds": _allowed,
    "PermissionsToCreateVolumeGlobalPermission": lambda s: s.permissions.global_permission,
    "Progresses": lambda s: s.progress,
    "SnapshotIds": lambda s: s.id,
    "States": lambda s: s.state,
    "ToCreationDate": _created,
    "VolumeIds": lambda s: s.volume_id,
    "VolumeSizes": lambda s: s.volume_size,
}

TAGS: Table = {
    "Keys": lambda t: t["Key"],
    "ResourceIds": lambda t: t["ResourceId"],
    "ResourceTypes": lambda t: t["ResourceType"],
    "Values": lambda t: t["Value"],
}

SUBREGIONS: Table = {
    "RegionNames": lambda s: s["RegionName"],
    "States": lambda s: s["State"],
    "SubregionNames": lambda s: s["SubregionName"],
}


def _mapped(name: str) -> Getter:
    return lambda vm: [mapping["Bsu"][name] for mapping in vm["BlockDeviceMappings"]]


VMS: Table = {
    "Architectures": lambda v: v["Architecture"],
    "BlockDeviceMappingDeviceNames": lambda v: [m["DeviceName"] for m in v["BlockDeviceMappings"]],
    "BlockDeviceMappingStates": _mapped("State"),
    "BlockDeviceMappingVolumeIds": _mapped("VolumeId"),
    "BootModes": lambda v: v["BootMode"],
    "ImageIds": lambda v: v["ImageId"],
    "PrivateIps": lambda v: v["PrivateIp"],
    "RootDeviceNames": lambda v: v["RootDeviceName"],
    "RootDeviceTypes": lambda v: v["RootDeviceType"],
    "SubregionNames": lambda v: v["Placement"]["SubregionName"],
    "TagKeys": lambda v: [tag["Key"] for tag in v["Tags"]],
    "TagValues": lambda v: [tag["Value"] for tag in v["Tags"]],
    "Tags": lambda v: [f"{tag['Key']}={tag['Value']}" for tag in v["Tags"]],
    "Tenancies": lambda v: v["Placement"]["Tenancy"],
    "VmIds": lambda v: v["VmId"],
    "VmStateNames": lambda v: v["State"],
    "VmTypes": lambda v: v["VmType"],
}
