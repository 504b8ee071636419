"""What the keeper's children do, by the names that requests give."""

from __future__ import annotations

from collections.abc import Callable

from tasks.chroot.warden import files, mounts, stand_ins

OPERATIONS: dict[str, Callable[..., object]] = {
    "mount_root": mounts.mount_root,
    "mount_extra": mounts.mount_extra,
    "unmount": mounts.unmount,
    "write_file": files.write_file,
    "write_tree": files.write_tree,
    "read_file": files.read_file,
    "read_tree": files.read_tree,
    "copy_in": stand_ins.copy_in,
    "put_back": stand_ins.put_back,
}
