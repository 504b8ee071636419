"""What a chroot is given beside its root file system."""

from __future__ import annotations

from typing import NamedTuple


class Mount(NamedTuple):
    """One entry of `chroot_mounts`."""

    kind: str
    """A file system type, or `bind`."""
    source: str
    """What mount(8) calls the source: for `bind` a path of the host."""
    inner: str
    """Where, as a path inside."""


DEFAULT_MOUNTS = (
    Mount("proc", "proc", "/proc"),
    Mount("sysfs", "sysfs", "/sys"),
    Mount("bind", "/dev", "/dev"),
    Mount("devpts", "devpts", "/dev/pts"),
    Mount("binfmt_misc", "binfmt_misc", "/proc/sys/fs/binfmt_misc"),
)
"""The seed builder's five. A jail gives each in a harmless form; see `tasks.chroot.jail.Jail.mount_extra`."""
