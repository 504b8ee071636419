"""What is mounted in the jail, and unmounting it again. All of it is in the jail's mount namespace only."""

# System calls as they are: pathlib would only stand between.
# ruff: noqa: PTH102, PTH106, PTH110, PTH112, PTH114, PTH115, PTH118, PTH120

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from pathlib import Path

from tasks.chroot.warden import kernel
from tasks.chroot.warden.devices import fill_dev
from tasks.chroot.warden.inside import Home, change_root, paths_inside

_HARMLESS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
_READ_ONLY_PROC = ("sys", "sysrq-trigger", "bus", "fs", "irq")
"""Where root changes the whole machine by a write."""


def mount_root(home: Home, device: str, filesystem: str | None, options: list[str]) -> None:
    """Mount a device as the jail's root, by mount(8), which knows file systems and their helpers."""
    _mount_program(
        [*(("-t", filesystem) if filesystem else ()), *(("-o", ",".join(options)) if options else ())],
        device,
        home.root,
    )


def mount_extra(
    home: Home, kind: str, source: str, inner: str, disk: str | None, links: dict[str, str]
) -> dict[str, object]:
    """Mount something inside. Returns the directories made for it, and a warning if it could not be and may be missing.

    `proc`, `sysfs`, `devpts`, `binfmt_misc` and a bind of the host's `/dev` are made harmless: see `tasks.chroot.jail`.
    """
    made = _make_directories(home, inner)
    if kind == "bind" and os.path.normpath(source) == "/dev":
        fill_dev(home, inner, disk, links)
    elif kind == "proc":
        _mount_proc(home, inner)
    elif kind == "sysfs":
        change_root(home)
        kernel.mount(source, inner, kind, _HARMLESS | kernel.MS_RDONLY)
    elif kind == "devpts":
        if not _is_mounted(home, inner):  # the private /dev brings its own
            change_root(home)
            kernel.mount(source, inner, kind, kernel.MS_NOSUID | kernel.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    elif kind == "binfmt_misc":
        return {"made": made, "warning": _mount_binfmt(home, source, inner)}
    elif kind == "bind":
        _mount_program(["--bind"], source, _outer(home, inner))
    else:
        _mount_program(["-t", kind], source, _outer(home, inner))
    return {"made": made, "warning": None}


def unmount(home: Home, made: list[str]) -> list[tuple[str, str]]:
    """Unmount everything, the last first, and return what is still mounted and why.

    Directories that were made for extra mounts are removed before the root goes.
    """
    left = []
    points = _mount_points(home)
    for point in reversed([point for point in points if point != home.root]):
        left += _unmount(point)
    if left or not points:
        return left
    with paths_inside(home):
        for directory in reversed(made):
            with suppress(OSError):  # a provisioner filled it, so it belongs to the image
                os.rmdir(directory)
    return [trouble for point in points if point == home.root for trouble in _unmount(point)]


def _unmount(point: str) -> list[tuple[str, str]]:
    try:
        kernel.unmount(point)
    except OSError as error:
        return [(point, error.strerror or str(error))]
    return []


def _mount_proc(home: Home, inner: str) -> None:
    change_root(home)
    kernel.mount("proc", inner, "proc", _HARMLESS)
    for name in _READ_ONLY_PROC:
        path = os.path.join(inner, name)
        if os.path.exists(path):
            kernel.mount(path, path, "none", kernel.MS_BIND | kernel.MS_REC)
            kernel.mount("none", path, "none", kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | _HARMLESS)


def _mount_binfmt(home: Home, source: str, inner: str) -> str | None:
    change_root(home)
    try:
        kernel.mount(source, inner, "binfmt_misc", _HARMLESS | kernel.MS_RDONLY)
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.ENOENT, errno.EPERM):
            raise
        return f"no binfmt_misc: programs of other processors do not run inside ({error.strerror})"
    return None


def _mount_program(options: list[str], source: str, target: str) -> None:
    import subprocess

    # -n: nothing about a mount that only the jail sees goes into the host's /run/mount.
    argv = ["mount", "-n", *options, "--", source, target]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        said = re.sub(r"\s*dmesg\(1\).*", "", done.stderr.strip(), flags=re.DOTALL)
        raise OSError(
            errno.EIO, said.removeprefix("mount: ") or f"mount ended with exit code {done.returncode}", source
        )


def _make_directories(home: Home, inner: str) -> list[str]:
    with paths_inside(home):
        missing = []
        # binfmt_misc's is the kernel's to give.
        while not os.path.isdir(inner) and not inner.startswith("/proc/"):
            if os.path.islink(inner):
                raise OSError(errno.ENOTDIR, "it is a link that leads nowhere in the image", inner)
            missing.append(inner)
            inner = os.path.dirname(inner)
        for directory in reversed(missing):
            os.mkdir(directory, 0o755)
    return missing[::-1]


def _outer(home: Home, inner: str) -> str:
    """A path inside, links resolved inside, as one of the mount namespace."""
    with paths_inside(home):
        found = os.open(inner, os.O_PATH | os.O_CLOEXEC)
    try:
        return os.readlink(f"/proc/self/fd/{found}")
    finally:
        os.close(found)


def _is_mounted(home: Home, inner: str) -> bool:
    return _outer(home, inner) in _mount_points(home)


def _mount_points(home: Home) -> list[str]:
    """Mount points at the root and below it, in the order of mounting (proc_pid_mountinfo(5))."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split(" ")[4])
        if point == home.root or point.startswith(home.root.rstrip("/") + "/"):
            points.append(point)
    return points
