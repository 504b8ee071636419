"""What clients see: each record as its schema in the API document has it, and lists as pages."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from emulators.outscale import errors
from emulators.outscale.bodies import Read
from emulators.outscale.records import Image, Mapping, Permissions, Snapshot, Volume

Json = dict[str, Any]
R = TypeVar("R")


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
            "Iops": record.iops,
            "SnapshotId": record.snapshot_id,
            "SubregionName": record.subregion,
            "CreationDate": date(record.creation_date),
            "ClientToken": record.name or None,
            "LinkedVolumes": linked,
            "Tags": tags(record.tags),
        }
    )


def snapshot(record: Snapshot) -> Json:
    """`Snapshot`."""
    return _without_nulls(
        {
            "SnapshotId": record.id,
            "State": record.state,
            "Progress": record.progress,
            "Description": record.description,
            "VolumeId": record.volume_id,
            "VolumeSize": record.volume_size,
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


def image(record: Image) -> Json:
    """`Image`."""
    return {
        "ImageId": record.id,
        "ImageName": record.name,
        "ImageType": "machine",
        "Description": record.description,
        "AccountId": record.account_id,
        "Architecture": record.architecture,
        "BlockDeviceMappings": [_mapping(mapping) for mapping in record.mappings],
        "BootModes": record.boot_modes,
        "CreationDate": date(record.creation_date),
        "FileLocation": f"{record.account_id}/{record.name}",
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


def page(key: str, found: list[R], read: Read, view: Callable[[R], Json], order: Callable[[R], list[str]]) -> Json:
    """One page of what was found, as `ResultsPerPage` and `NextPageToken` ask for it.

    The token names the last record of the page, so that what comes and goes meanwhile shifts nothing.
    """
    found = sorted(found, key=order)
    if read.next_page_token is not None:
        last = _last(read.next_page_token)
        found = [record for record in found if order(record) > last]
    shown = found[: read.results_per_page] if read.results_per_page else found
    content: Json = {key: [view(record) for record in shown]}
    if len(shown) < len(found):
        content["NextPageToken"] = base64.b64encode(json.dumps(order(shown[-1])).encode()).decode()
    return content


def _last(token: str) -> list[str]:
    try:
        last = json.loads(base64.b64decode(token, validate=True))
    except ValueError:
        last = None
    if not isinstance(last, list) or not all(isinstance(part, str) for part in last):
        raise errors.invalid_value(errors.INVALID_VALUE, "NextPageToken is not valid.")
    return last
