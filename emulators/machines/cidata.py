"""The disk through which a guest is told its name and keys: FAT12, label `cidata`, NoCloud's two files.

Oxide makes it so (`meta-data` is JSON with `instance-id`, `local-hostname` and `public-keys`; `user-data` is always
there and may be empty), anew at every power-on.
"""

from __future__ import annotations

import json
from pathlib import Path

from emulators.machines import CloudInit
from emulators.machines.disks import delete_disk, run

_KIB = 1024
"""A floppy's size in KiB, at which a FAT has 12 bits: user data has at most 32 KiB."""


def write_cidata_files(cloud_init: CloudInit, directory: Path) -> list[Path]:
    """Write `meta-data` and `user-data` into a directory and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    meta_data, user_data = directory / "meta-data", directory / "user-data"
    meta_data.write_text(
        json.dumps(
            {
                "instance-id": cloud_init.instance_id,
                "local-hostname": cloud_init.hostname,
                "public-keys": list(cloud_init.public_keys),
            },
            separators=(",", ":"),
        )
    )
    user_data.write_bytes(cloud_init.user_data)
    return [meta_data, user_data]


async def write_cidata(cloud_init: CloudInit, disk: Path) -> None:
    """Make the cidata disk, in place of one from an earlier power-on.

    Raises:
        OSError: `mkfs.vfat` (dosfstools) or `mcopy` (mtools) is missing or failed.
    """
    files = write_cidata_files(cloud_init, disk.parent / "cidata")
    delete_disk(disk)
    size = max(1440, 200 + (len(cloud_init.user_data) // _KIB) * 2)
    await run(["mkfs.vfat", "-F", "12", "-n", "cidata", "-C", disk, str(size)])
    await run(["mcopy", "-i", disk, *files, "::"])
