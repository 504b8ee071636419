"""Being inside the jail: its root, its namespaces, what a command there may not do, and what it sees."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tasks.chroot.warden import kernel

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/sh",
    "TERM": "dumb",
    "LANG": "C.UTF-8",
}
"""All that a command inside finds in its environment."""

DROPPED = (
    12,  # NET_ADMIN: the network, its addresses and its firewall are the host's
    16,  # SYS_MODULE
    17,  # SYS_RAWIO
    22,  # SYS_BOOT
    25,  # SYS_TIME
    32,  # MAC_OVERRIDE
    33,  # MAC_ADMIN: the host kernel's security policy
    34,  # SYSLOG
    35,  # WAKE_ALARM
    36,  # BLOCK_SUSPEND
)
"""Capabilities (capabilities(7), by number) through which a package's scripts reach the host by mere accident.

Kept on purpose: SYS_ADMIN, since mounts inside are normal; MKNOD, since packages make device nodes, in their own
chroots and for early boot, and a node of the host's devices is made by nobody by accident; SYS_PTRACE, since
`systemctl` and `ischroot` look at `/proc/1/root` to learn that they are in a chroot, and act on it. Without MAC_ADMIN
an SELinux host sets no labels that its own policy does not know: such an image relabels itself at its first boot.
"""


@dataclass(frozen=True)
class Home:
    """One jail."""

    root: str
    """Where its root file system is mounted, in the jail's mount namespace."""
    ipc: str = ""
    """Its IPC namespace, as a file."""
    uts: str = ""
    """Its UTS namespace, as a file."""


def go_inside(home: Home) -> None:
    """Enter for good: namespaces, then root."""
    for path, kind in ((home.ipc, kernel.CLONE_NEWIPC), (home.uts, kernel.CLONE_NEWUTS)):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        kernel.enter_namespace(descriptor, kind)
        os.close(descriptor)
    change_root(home)


def change_root(home: Home) -> None:
    """Have every path resolve inside the root: absolute links, `..`, everything (chroot(2))."""
    if not os.path.ismount(home.root):
        raise OSError(errno.ENODEV, "no root file system is mounted", home.root)
    os.chroot(home.root)
    os.chdir("/")


@contextmanager
def paths_inside(home: Home) -> Iterator[None]:
    """Have paths resolve inside the root for a while; then on the host again."""
    outside = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        change_root(home)
        try:
            yield
        finally:
            os.fchdir(outside)
            os.chroot(".")
            os.chdir("/")
    finally:
        os.close(outside)


def execute(argv: list[str], environment: dict[str, str]) -> None:
    """Become a command inside. Call `go_inside` first."""
    kernel.give_up_at_exec(DROPPED)
    become(argv, environment)


def become(argv: list[str], environment: dict[str, str]) -> None:
    """Become a program with what a program expects to begin with."""
    # What is ignored stays ignored in what is executed, and Python ignores these.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        with suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    os.execvpe(argv[0], argv, environment)  # noqa: S606 (it is the purpose)
