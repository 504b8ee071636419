"""OMIs: registered from snapshots, or copied from other OMIs."""

from __future__ import annotations

import asyncio
import logging
import secrets

from emulators.outscale import bodies, errors, quotas, snapshots
from emulators.outscale.accounts import Account
from emulators.outscale.permissions import change
from emulators.outscale.records import Image, ImageState, Mapping, Permissions, Snapshot, SnapshotState, new_id, now
from emulators.outscale.region import OutscaleRegion, slower
from emulators.outscale.volumes import check_size, provisioned
from emulators.region.faults import Struck

log = logging.getLogger(__name__)

ROOT_DEVICE = "/dev/sda1"
_PRODUCT = "0001"
_LONGEST_NAME = 128


def create(region: OutscaleRegion, account: Account, body: bodies.CreateImage, struck: Struck) -> Image:
    """Begin an OMI: registered from snapshots, or a copy of another one.

    Raises:
        ApiError: the name is taken, a snapshot or the source does not fit, or this region has no such way.
    """
    _check_form(body)
    if body.vm_id is not None or body.file_location is not None:
        raise errors.not_supported("This region makes OMIs of snapshots and of other OMIs only.")
    if body.source_image_id is not None or body.source_region_name is not None:
        image = _copy(region, account, body, struck)
    else:
        image = _register(region, account, body)
    region.images.save(image)
    region.spawn(image, _finish(region, image, fails=struck.by("image_failed") is not None, slower=slower(struck)))
    return image


def _check_form(body: bodies.CreateImage) -> None:
    """Refuse parameters of two of the four forms of the call."""
    forms = (
        {
            "BlockDeviceMappings": body.block_device_mappings,
            "RootDeviceName": body.root_device_name,
            "Architecture": body.architecture,
        },
        {"SourceImageId": body.source_image_id, "SourceRegionName": body.source_region_name},
        {"VmId": body.vm_id, "NoReboot": body.no_reboot},
        {"FileLocation": body.file_location},
    )
    given = [[name for name, value in form.items() if value is not None] for form in forms]
    if sum(bool(names) for names in given) > 1:
        raise errors.invalid_combination(", ".join(name for names in given for name in names))


def _register(region: OutscaleRegion, account: Account, body: bodies.CreateImage) -> Image:
    required = {
        "ImageName": body.image_name,
        "RootDeviceName": body.root_device_name,
        "BlockDeviceMappings": body.block_device_mappings,
    }
    if missing := [name for name, value in required.items() if not value]:
        raise errors.missing_parameter(", ".join(missing))
    assert body.image_name is not None
    assert body.root_device_name is not None
    if body.root_device_name != ROOT_DEVICE:
        raise errors.invalid_value(errors.INVALID_DEVICE_NAME, f"A root device is '{ROOT_DEVICE}'.")
    mappings = [_mapping(region, account, mapping) for mapping in body.block_device_mappings or []]
    devices = [mapping.device for mapping in mappings]
    if len(set(devices)) < len(devices):
        raise _bad_mapping("each has a device of its own")
    root = next((mapping for mapping in mappings if mapping.device == ROOT_DEVICE), None)
    if root is None or root.snapshot_id is None:
        raise errors.invalid_value(
            errors.INVALID_ROOT_MAPPING, f"BlockDeviceMappings: one has the device '{ROOT_DEVICE}', and a snapshot"
        )
    _check_free(region, account, body.image_name)
    return Image(
        id=new_id("ami"),
        name=body.image_name,
        account_id=account.account_id,
        description=body.description,
        architecture=body.architecture or "x86_64",
        root_device=ROOT_DEVICE,
        mappings=mappings,
        boot_modes=body.boot_modes or ["legacy"],
        product_codes=[_PRODUCT] if body.product_codes is None else body.product_codes,
        tpm_mandatory=body.tpm_mandatory or False,
    )


def _bad_mapping(details: str) -> errors.ApiError:
    return errors.invalid_value(errors.INVALID_MAPPING, f"BlockDeviceMappings: {details}")


def _mapping(region: OutscaleRegion, account: Account, body: bodies.BlockDeviceMapping) -> Mapping:
    if body.device_name is None:
        raise _bad_mapping("each has a DeviceName")
    if body.virtual_device_name is not None:
        if body.bsu is not None:
            raise errors.invalid_value(
                errors.INVALID_VIRTUAL_NAME, f"'{body.device_name}' is either a volume or a virtual device"
            )
        return Mapping(device=body.device_name, virtual_device=body.virtual_device_name)
    if body.bsu is None:
        raise _bad_mapping(f"'{body.device_name}' has neither Bsu nor VirtualDeviceName")
    size, least = body.bsu.volume_size, 1
    if body.bsu.snapshot_id is not None:
        snapshot = region.snapshot(account, body.bsu.snapshot_id)
        if snapshot.state is not SnapshotState.COMPLETED:
            raise errors.wrong_state("snapshot", snapshot.id, snapshot.state)
        least = snapshot.volume_size
        size = least if size is None else size
    if size is None:
        raise _bad_mapping(f"'{body.device_name}' has neither SnapshotId nor VolumeSize")
    check_size(size, least)
    return Mapping(
        device=body.device_name,
        snapshot_id=body.bsu.snapshot_id,
        size=size,
        volume_type=body.bsu.volume_type,
        iops=provisioned(body.bsu.volume_type, body.bsu.iops, size),
        delete_on_vm_deletion=body.bsu.delete_on_vm_deletion,
    )


def _copy(region: OutscaleRegion, account: Account, body: bodies.CreateImage, struck: Struck) -> Image:
    if body.source_image_id is None:
        raise errors.missing_parameter("SourceImageId")
    snapshots.check_region(region, body.source_region_name)
    source = region.image(account, body.source_image_id)
    if source.state is not ImageState.AVAILABLE:
        raise errors.wrong_state("image", source.id, source.state)
    suffix = f"-copy-{secrets.token_hex(4)}"
    name = body.image_name or source.name[: _LONGEST_NAME - len(suffix)] + suffix
    _check_free(region, account, name)
    originals = {s.id: s for s in _snapshots(region, source)}
    quotas.check(region, account.account_id, image_copy_limit=1, snapshot_limit=len(originals))
    quotas.check(region, account.account_id, snapshot_copy_limit=len(originals))
    image = source.model_copy(
        deep=True,
        update={
            "id": new_id("ami"),
            "name": name,
            "account_id": account.account_id,
            "creation_date": now(),
            "description": body.description or source.description,
            "permissions": Permissions(),
            "source_image_id": source.id,
            "state": ImageState.PENDING,
            "source_mark": None,
            "tags": {},
        },
    )
    image.boot_modes = body.boot_modes or image.boot_modes
    image.product_codes = image.product_codes if body.product_codes is None else body.product_codes
    image.tpm_mandatory = image.tpm_mandatory if body.tpm_mandatory is None else body.tpm_mandatory
    copies = {
        original.id: snapshots.copy(account, original, f"Copied for {image.id}") for original in originals.values()
    }
    for original_id, made in copies.items():
        snapshots.begin(region, made, originals[original_id], struck)
    for mapping in image.mappings:
        if mapping.snapshot_id in copies:
            mapping.snapshot_id = copies[mapping.snapshot_id].id
    return image


def _check_free(region: OutscaleRegion, account: Account, name: str) -> None:
    if region.images.named(account.account_id, name):
        raise errors.conflict(errors.DUPLICATE_NAME, f"The account has an OMI named '{name}' already.")


async def _finish(region: OutscaleRegion, image: Image, *, fails: bool = False, slower: float = 0) -> None:
    await asyncio.sleep(region.times.image + slower)
    while pending := [s for s in _snapshots(region, image) if s.is_being_made]:
        log.debug("%s waits for %s", image.id, pending[0].id)
        await asyncio.sleep(0.02)
    whole = all(snapshot.state is SnapshotState.COMPLETED for snapshot in _snapshots(region, image))
    image.state = ImageState.AVAILABLE if whole and not fails else ImageState.FAILED
    if image.state is ImageState.FAILED:
        image.state_comment = "The OMI could not be made."
    region.images.save(image)


def _snapshots(region: OutscaleRegion, image: Image) -> list[Snapshot]:
    found = (region.snapshots.get(mapping.snapshot_id or "") for mapping in image.mappings)
    return [snapshot for snapshot in found if snapshot is not None]


def settle(region: OutscaleRegion, image: Image) -> None:
    """Finish an OMI that a former process had begun."""
    region.spawn(image, _finish(region, image))


def update(region: OutscaleRegion, account: Account, body: bodies.UpdateImage) -> Image:
    """Change an OMI's description, product codes, or who else may launch VMs from it.

    Raises:
        ApiError: nothing is to be changed, or the OMI is not this account's.
    """
    image = region.image(account, body.image_id, own=True)
    if body.permissions_to_launch is None and body.description is None and body.product_codes is None:
        raise errors.missing_parameter("PermissionsToLaunch, Description or ProductCodes")
    if body.permissions_to_launch is not None:
        image.permissions = change(image.permissions, body.permissions_to_launch)
    if body.description is not None:
        image.description = body.description
    if body.product_codes is not None:
        image.product_codes = body.product_codes
    region.images.save(image)
    return image


def delete(region: OutscaleRegion, account: Account, image_id: str) -> None:
    """Delete an OMI. Its snapshots stay."""
    image = region.image(account, image_id, own=True)
    region.images.delete(image.id)
    region.forget(image)
