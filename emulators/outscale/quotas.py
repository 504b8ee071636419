"""What an account may have at most: nothing is limited until the region is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from emulators.outscale import errors, wire
from emulators.outscale.records import ImageState, Volume
from emulators.outscale.region import OutscaleRegion


@dataclass(frozen=True)
class Quota:
    """One quota, as the cloud names it, and what is used of it."""

    title: str
    description: str
    code: int
    """The error of a request that would go beyond it."""
    used: Callable[[OutscaleRegion, str], int]


def _volumes(count: Callable[[Volume], int]) -> Callable[[OutscaleRegion, str], int]:
    return lambda region, account_id: sum(count(volume) for volume in region.volumes.within(account_id))


def _of_type(volume_type: str) -> Callable[[OutscaleRegion, str], int]:
    return _volumes(lambda volume: volume.size if volume.volume_type == volume_type else 0)


def _snapshots(region: OutscaleRegion, account_id: str) -> int:
    return len(region.snapshots.within(account_id))


def _snapshot_copies(region: OutscaleRegion, account_id: str) -> int:
    return sum(
        snapshot.source_snapshot_id is not None and snapshot.is_being_made
        for snapshot in region.snapshots.within(account_id)
    )


def _image_copies(region: OutscaleRegion, account_id: str) -> int:
    return sum(
        image.source_image_id is not None and image.state is ImageState.PENDING
        for image in region.images.within(account_id)
    )


QUOTAS: Mapping[str, Quota] = {
    "volume_limit": Quota(
        "Volume Limit", "Maximum number of BSU volumes", errors.TOO_MANY_VOLUMES, _volumes(lambda _: 1)
    ),
    "volume_size_limit": Quota(
        "Volume Size Limit",
        "Maximum cumulated size of BSU volumes (GiB)",
        errors.TOO_MUCH_VOLUME_SIZE,
        _volumes(lambda volume: volume.size),
    ),
    "standard_volume_size_limit": Quota(
        "Standard Volume Size Limit",
        "Maximum cumulated size of standard volumes (GiB)",
        errors.TOO_MUCH_VOLUME_SIZE,
        _of_type("standard"),
    ),
    "gp2_volume_size_limit": Quota(
        "GP2 Volume Size Limit",
        "Maximum cumulated size of GP2 volumes (GiB)",
        errors.TOO_MUCH_VOLUME_SIZE,
        _of_type("gp2"),
    ),
    "io1_volume_size_limit": Quota(
        "IO1 Volume Size Limit",
        "Maximum cumulated size of IO1 volumes (GiB)",
        errors.TOO_MUCH_VOLUME_SIZE,
        _of_type("io1"),
    ),
    "iops_limit": Quota(
        "Provisioned IOPS Limit",
        "Maximum number of IOPS delivered by provisioned IOPS volumes",
        errors.TOO_MANY_IOPS,
        _volumes(lambda volume: volume.iops or 0),
    ),
    "snapshot_limit": Quota("Snapshot Limit", "Maximum number of snapshots", errors.TOO_MANY_SNAPSHOTS, _snapshots),
    "snapshot_copy_limit": Quota(
        "Snapshot Copy Limit",
        "Maximum number of in-progress snapshot copies",
        errors.TOO_MANY_CONCURRENT_SNAPSHOTS,
        _snapshot_copies,
    ),
    "image_copy_limit": Quota(
        "Image Copy Limit",
        "Maximum number of in-progress image copies",
        errors.TOO_MANY_CONCURRENT_SNAPSHOTS,
        _image_copies,
    ),
}


def check(region: OutscaleRegion, account_id: str, **more: int) -> None:
    """Refuse what would go beyond a quota.

    Args:
        more: by quota, how much more of it would be used.

    Raises:
        ApiError: the quota is used up.
    """
    for name, amount in more.items():
        limit = region.limits.get(name, 0)
        if limit and amount and QUOTAS[name].used(region, account_id) + amount > limit:
            raise errors.too_many(QUOTAS[name].code)


def check_volume(region: OutscaleRegion, account_id: str, volume: Volume, former: Volume | None = None) -> None:
    """Refuse a volume, or what is to become of one, that would go beyond a quota."""
    size, iops = volume.size, volume.iops or 0
    if former is None:
        of_type = size
    else:
        of_type = size - former.size if former.volume_type == volume.volume_type else size
        size, iops = size - former.size, iops - (former.iops or 0)
    check(
        region,
        account_id,
        volume_limit=1 if former is None else 0,
        volume_size_limit=size,
        iops_limit=iops,
        **{f"{volume.volume_type}_volume_size_limit": of_type},
    )


def views(region: OutscaleRegion, account_id: str) -> list[wire.Json]:
    """Every quota of an account, as `Quota`."""
    return [
        {
            "Name": name,
            "ShortDescription": quota.title,
            "Description": quota.description,
            "QuotaCollection": "Storage",
            "AccountId": account_id,
            "MaxValue": region.limits.get(name, 0),
            "UsedValue": quota.used(region, account_id),
        }
        for name, quota in QUOTAS.items()
    ]


def check_names(names: Iterable[str]) -> None:
    """Raise ValueError for names that no quota has."""
    if unknown := sorted(set(names) - set(QUOTAS)):
        raise ValueError(f"unknown quota {', '.join(unknown)}: this region has {', '.join(QUOTAS)}")
