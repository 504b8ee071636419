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
    "initramfs-hook": "etc/initramfs-tools/hooks/zz-image-bakery",
    "initramfs-init": "etc/initramfs-tools/image-bakery-init",
}
_AFTER = {
    "grub.cfg": "boot/grub/grub.cfg",
    "fstab": "etc/fstab",
    "dhcp.network": "etc/systemd/network/80-dhcp.network",
    "cloud.cfg": "etc/cloud/cloud.cfg.d/90_image_bakery.cfg",
    "udev-trigger.conf": "etc/systemd/system/systemd-udev-trigger.service.d/image-bakery.conf",
    "ssh.conf": "etc/systemd/system/ssh.service.d/image-bakery.conf",
    "grow.service": "etc/systemd/system/image-bakery-grow.service",
    "grow": "usr/local/lib/image-bakery/grow",
    "journald.conf": "etc/systemd/journald.conf.d/image-bakery.conf",
}
# Nothing a guest of minutes needs, and each costs an emulated processor time at boot.
_MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("e2scrub_reap.service", "getty@tty1.service", "motd-news.timer", "systemd-pstore.service"),
    *("cloud-init-hotplugd.socket", "systemd-update-utmp.service", "systemd-random-seed.service"),
    *("systemd-update-utmp-runlevel.service", "systemd-journal-flush.service", "systemd-modules-load.service"),
    *("kmod-static-nodes.service", "systemd-sysusers.service", "systemd-networkd-wait-online.service"),
    *("dev-hugepages.mount", "dev-mqueue.mount", "proc-sys-fs-binfmt_misc.automount", "sys-kernel-config.mount"),
    *("sys-fs-fuse-connections.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("getty-static.service", "systemd-ask-password-wall.path", "systemd-ask-password-console.path"),
    "systemd-repart.service",
)
# Programs that systemd starts before anything else: for kinds of disks and of start-up that this guest has not got.
_GENERATORS = (
    *("cloud-init-generator", "systemd-cryptsetup-generator", "systemd-getty-generator", "systemd-gpt-auto-generator"),
    *("systemd-hibernate-resume-generator", "systemd-integritysetup-generator", "systemd-rc-local-generator"),
    *("systemd-run-generator", "systemd-system-update-generator", "systemd-sysv-generator"),
    *("systemd-veritysetup-generator",),
)
_WANTED = ("systemd-networkd.service", "systemd-resolved.service", "cloud-init.target", "console-getty.service")
"""What starts with `multi-user.target`."""
_UNWANTED = ("systemd-logind.service",)
"""What D-Bus starts when somebody asks for it."""


def build(directory: Path, work: Path) -> Image:
    """Build the distribution's guest in `directory`, with temporary files in `work`."""
    distribution, version, codename = apt.distribution()
    root = work / "root"
    sources = work / "sources.list"
    sources.write_text(apt.sources())
    progress(f"installing {distribution} {version} with mmdebstrap (half a minute to some minutes)")
    hooks = [f"--essential-hook=upload {_FILES / name} /{target}" for name, target in _BEFORE_KERNEL.items()]
    hooks.insert(0, '--essential-hook=mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/etc/initramfs-tools/hooks"')
    hooks.append('--essential-hook=chmod 755 "$1/etc/initramfs-tools/hooks/zz-image-bakery"')
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
    units = root / "etc/systemd/system"
    for unit in _MASKED:
        _link(units / unit, "/dev/null")
    for generator in _GENERATORS:
        _link(root / "etc/systemd/system-generators" / generator, "/dev/null")
    vendor = (
        "/usr/lib/systemd/system" if (root / "usr/lib/systemd/system/ssh.service").exists() else "/lib/systemd/system"
    )
    for unit in _WANTED:
        _link(units / "multi-user.target.wants" / unit, f"{vendor}/{unit}")
    _link(units / "sysinit.target.wants/image-bakery-grow.service", "../image-bakery-grow.service")
    for unit in _UNWANTED:
        _link(units / "multi-user.target.wants" / unit, "/dev/null")
    # It would keep users out until the last service before a log-in prompt has started; SSH does not start too early.
    _link(root / "etc/tmpfiles.d/systemd-nologin.conf", "/dev/null")
    _cloud_init(root, units)
    # Empty, not missing: a new one at each first boot, without the questions of a first boot.
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").write_text("localhost\n")
    _link(root / "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()


def _cloud_init(root: Path, units: Path) -> None:
    """Two starts of Python in place of four, where the version of cloud-init has not got one process for all stages."""
    if any(
        (root / path / "cloud-init-main.service").exists() for path in ("lib/systemd/system", "usr/lib/systemd/system")
    ):
        return
    _link(units / "cloud-init-local.service", "/dev/null")
    _link(units / "cloud-config.service", "/dev/null")
    for stage in ("init", "final"):
        drop_in = units / f"cloud-{stage}.service.d/image-bakery.conf"
        drop_in.parent.mkdir()
        shutil.copyfile(_FILES / f"cloud-{stage}.conf", drop_in)
    for name in ("cloud-init", "cloud-init-boot"):
        script = root / "usr/local/lib/image-bakery" / name
        shutil.copyfile(_FILES / name, script)
        script.chmod(0o755)


def _link(link: Path, target: str) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
