"""What clients see: each record as its schema in the API document has it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from emulators.outscale.records import Image, Mapping, Permissions, Snapshot, Volume

Json = dict[str, Any]


def date(moment: datetime) -> str:
    """A time as the API writes it, with milliseconds."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def tags(of: dict[str, str]) -> list[Json]:
    """`[ResourceTag]`."""
    return [{"Key": key, "Value": value} for key, value in of.items()]


def _without_nulls(view: Json) -> Json:
    return {key: value for key, value in view.items() if value is not None}


def _permissions(of: Permissions) -> Json:
    return {"AccountIds": of.account_ids, "GlobalPermission": of.global_permission}


def volume(record: Volume) -> Json:
    """`Volume`."""
    link = record.link
    linked = []
    if link is not None:
        linked.append(
            {
                "VolumeId": record.id,
                "VmId": link.vm_id,
                "DeviceName": link.device,
                "State": link.state,
                "DeleteOnVmDeletion": link.delete_on_vm_deletion,
            }
        )
    return _without_nulls(
        {
            "VolumeId": record.id,
            "State": record.state,
            "Size": record.size,
            "VolumeType": record.volume_type,
            "Iops": _performance(record),
            "SnapshotId": record.snapshot_id,
            "SubregionName": record.subregion,
            "CreationDate": date(record.creation_date),
            "ClientToken": record.name or None,
            "LinkedVolumes": linked,
            "Tags": tags(record.tags),
        }
    )


def _performance(record: Volume) -> int | None:
    """The IOPS that are provisioned for an io1 volume, and the baseline of a gp2 volume."""
    if record.volume_type == "gp2":
        return min(max(100, 3 * record.size), 10000)
    return record.iops


def snapshot(record: Snapshot, alias: str | None = None) -> Json:
    """`Snapshot`. `alias` is the owner's."""
    return _without_nulls(
        {
            "SnapshotId": record.id,
            "State": record.state,
            "Progress": record.progress,
            "Description": record.description,
            "VolumeId": record.volume_id,
            "VolumeSize": record.volume_size,
            "AccountAlias": alias,
            "AccountId": record.account_id,
            "CreationDate": date(record.creation_date),
            "ClientToken": record.name or None,
            "PermissionsToCreateVolume": _permissions(record.permissions),
            "Tags": tags(record.tags),
        }
    )


def _mapping(of: Mapping) -> Json:
    if of.virtual_device is not None:
        return {"DeviceName": of.device, "VirtualDeviceName": of.virtual_device}
    bsu = {
        "SnapshotId": of.snapshot_id,
        "VolumeSize": of.size,
        "VolumeType": of.volume_type,
        "Iops": of.iops,
        "DeleteOnVmDeletion": of.delete_on_vm_deletion,
    }
    return {"DeviceName": of.device, "Bsu": _without_nulls(bsu)}


def image(record: Image, alias: str | None = None) -> Json:
    """`Image`. `alias` is the owner's."""
    return _without_nulls(_image(record, alias))


def _image(record: Image, alias: str | None) -> Json:
    return {
        "ImageId": record.id,
        "ImageName": record.name,
        "ImageType": "machine",
        "Description": record.description,
        "AccountAlias": alias,
        "AccountId": record.account_id,
        "Architecture": record.architecture,
        "BlockDeviceMappings": [_mapping(mapping) for mapping in record.mappings],
        "BootModes": record.boot_modes,
        "CreationDate": date(record.creation_date),
        "FileLocation": f"{alias or record.account_id}/{record.name}",
        "PermissionsToLaunch": _permissions(record.permissions),
        "ProductCodes": record.product_codes,
        "RootDeviceName": record.root_device,
        "RootDeviceType": "bsu",
        "SecureBoot": False,
        "State": record.state,
        "StateComment": _without_nulls(
            {
                "StateCode": record.state_comment and "Server.InternalError",
                "StateMessage": record.state_comment,
            }
        ),
        "Tags": tags(record.tags),
        "TpmMandatory": record.tpm_mandatory,
    }
