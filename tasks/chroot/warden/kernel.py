"""System calls that Python 3.11 has no names for. Each raises `OSError`."""

from __future__ import annotations

import ctypes
import os
import signal

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWPID = 0x2000_0000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x8_0000
MNT_DETACH = 0x2

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x2008_0522

_libc = ctypes.CDLL(None, use_errno=True)


def _done(result: int, name: str | None = None) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones (unshare(2)). A new PID namespace begins with the next child."""
    _done(_libc.unshare(flags))


def enter_namespace(descriptor: int, kind: int) -> None:
    """Enter the namespace behind a file of `/proc/PID/ns` (setns(2))."""
    _done(_libc.setns(descriptor, kind))


def mount(source: str, target: str, filesystem: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    _done(
        _libc.mount(
            os.fsencode(source), os.fsencode(target), filesystem.encode(), ctypes.c_ulong(flags), os.fsencode(data)
        ),
        target,
    )


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _done(_libc.umount2(os.fsencode(target), flags), target)


def signal_at_parents_end(number: signal.Signals, parent: int) -> None:
    """Have this process signalled when the thread that started it ends (PR_SET_PDEATHSIG, prctl(2)).

    If `parent`, as this process's PID namespace numbers it, has ended already, this process ends at once.
    """
    _done(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0))
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Be the parent of whatever descendant loses its own (PR_SET_CHILD_SUBREAPER, prctl(2))."""
    _done(_libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0))


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def give_up_at_exec(capabilities: tuple[int, ...]) -> None:
    """Take capabilities from whatever this process executes, for good (capabilities(7), "bounding set").

    A root process gets the union of inheritable and bounding set when it executes a program, so both have to go.
    """
    for capability in capabilities:
        # One that this kernel does not know, it does not grant either.
        _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0)
    header = _Header(_CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)()
    _done(_libc.capget(ctypes.byref(header), sets))
    for half in sets:
        half.inheritable = 0
    _done(_libc.capset(ctypes.byref(header), sets))
