"""The Debian (or Ubuntu) guest: the machine's own release with systemd, cloud-init and OpenSSH."""

from __future__ import annotations

import shutil
from pathlib import Path

from emulators.guests import apt
from emulators.guests.disk import build_disk
from emulators.guests.image import Image
from emulators.guests.run import progress, talk

SIZE = 2 * 1024**3
"""Bytes. The guest grows its root to the disk that it finds."""

_FILES = Path(__file__).parent / "debian_files"
_PACKAGES = (
    *("ca-certificates", "cloud-guest-utils", "cloud-init", "dbus", "e2fsprogs", "fdisk", "iproute2", "lz4", "netbase"),
    *("openssh-server", "sudo", "systemd", "systemd-resolved", "systemd-sysv", "udev"),
)
_BEFORE_KERNEL = {
    "kernel-img.conf": "etc/kernel-img.conf",
    "initramfs.conf": "etc/initramfs-tools/conf.d/image-bakery",
    "initramfs-modules": "etc/initramfs-tools/modules",
}
_AFTER = {
    "grub.cfg": "boot/grub/grub.cfg",
    "fstab": "etc/fstab",
    "dhcp.network": "etc/systemd/network/80-dhcp.network",
    "cloud.cfg": "etc/cloud/cloud.cfg.d/90_image_bakery.cfg",
    "ds-identify.cfg": "etc/cloud/ds-identify.cfg",
}
# Nothing a guest of minutes needs, and each costs an emulated processor time at boot.
_MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("e2scrub_reap.service", "getty@tty1.service", "motd-news.timer", "systemd-pstore.service"),
    *("cloud-init-hotplugd.socket", "systemd-update-utmp.service", "systemd-random-seed.service"),
)


def build(directory: Path, work: Path) -> Image:
    """Build the distribution's guest in `directory`, with temporary files in `work`."""
    distribution, version, codename = apt.distribution()
    root = work / "root"
    sources = work / "sources.list"
    sources.write_text(apt.sources())
    progress(f"installing {distribution} {version} with mmdebstrap (half a minute to some minutes)")
    hooks = [f"--essential-hook=upload {_FILES / name} /{target}" for name, target in _BEFORE_KERNEL.items()]
    hooks.insert(0, '--essential-hook=mkdir -p "$1/etc/initramfs-tools/conf.d"')
    # fmt: off
    talk([
        "mmdebstrap", "--variant=minbase", f"--include={','.join((*_PACKAGES, apt.kernel_package()))}",
        "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*", *hooks, codename, root, sources,
    ])
    # fmt: on
    _configure(root)
    progress("writing the disk")
    build_disk(directory / "disk.raw", root, SIZE, label="root", journal=16)
    return Image(
        name=f"{distribution}-{version}",
        description=f"{distribution.capitalize()} {version} ({codename}) with cloud-init; user {distribution}",
        os=distribution,
        version=version,
    )


def _configure(root: Path) -> None:
    for name, target in _AFTER.items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_FILES / name, root / target)
    for unit in _MASKED:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    for unit in ("systemd-networkd.service", "systemd-resolved.service"):
        link = wants / unit
        if not link.is_symlink():
            link.symlink_to(
                f"/usr/lib/systemd/system/{unit}"
                if (root / "usr/lib/systemd/system" / unit).exists()
                else f"/lib/systemd/system/{unit}"
            )
    # Empty, not missing: a new one at each first boot, without the questions of a first boot.
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").write_text("localhost\n")
    resolv = root / "etc/resolv.conf"
    resolv.unlink(missing_ok=True)
    resolv.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
