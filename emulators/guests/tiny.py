"""The tiny guest: a kernel, busybox and dropbear on a disk that boots by itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from emulators.guests import apt
from emulators.guests.disk import build_disk
from emulators.guests.image import Image
from emulators.guests.run import BuildError, progress, run

VERSION = "3"
"""Raised whenever a built image would differ, so that the next build makes it anew."""

SIZE = 1024**3
"""Bytes: the smallest disk of a region. Almost all of it is a hole."""

_FILES = Path(__file__).parent / "tiny_files"
_PACKAGES = ("busybox-static", "dropbear-bin", "openssh-client", "openssh-sftp-server")
_PROGRAMS = {
    "usr/sbin/dropbear": "usr/sbin/dropbear",
    "usr/bin/dropbearkey": "usr/bin/dropbearkey",
    "usr/bin/scp": "usr/bin/scp",
    # OpenSSH keeps it elsewhere, dropbear looks for it here.
    "usr/lib/openssh/sftp-server": "usr/lib/sftp-server",
}
# In the order to load them. What a kernel has built in is fine, too.
_MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "ext4", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1"),
    "pvpanic-pci",
)
_OPTIONAL_MODULES = {"nls_cp437", "nls_ascii", "nls_iso8859-1", "pvpanic-pci"}
_SCRIPTS = {
    "inittab": ("etc/inittab", 0o644),
    "rcS": ("etc/init.d/rcS", 0o755),
    "rcK": ("etc/init.d/rcK", 0o755),
    "cloud": ("etc/init.d/cloud", 0o755),
    "user-data": ("etc/init.d/user-data", 0o755),
    "udhcpc.script": ("etc/udhcpc.script", 0o755),
    "shutdown": ("usr/sbin/shutdown", 0o755),
    "grub.cfg": ("boot/grub/grub.cfg", 0o644),
}
_TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    "baker:x:1000:1000:Baker:/home/baker:/bin/sh\n",
    # `*` has no password and is not locked: dropbear refuses even the key of a locked user.
    "etc/shadow": "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\nbaker:*:19000:0:99999:7:::\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\nbaker:x:1000:\n",
    "etc/shells": "/bin/sh\n",
    "etc/profile": "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "etc/machine-id": "",
}


def build(directory: Path, work: Path) -> Image:
    """Build the tiny guest in `directory`, with temporary files in `work`."""
    progress("downloading kernel, busybox and dropbear")
    programs, kernel = work / "programs", work / "kernel"
    apt.unpack(apt.download(apt.with_libraries(_PACKAGES), work / "debs"), programs)
    apt.unpack(apt.download(apt.kernel_packages(), work / "kernel-debs"), kernel)

    progress("assembling the root tree")
    root = directory / "root"
    _skeleton(root)
    _busybox(root, programs)
    _programs(root, programs)
    _boot(root, kernel, work)
    _own(root)

    progress("writing the disk")
    build_disk(directory / "disk.raw", root, SIZE, label="tiny", journal=4)
    # The tree alone is for machines that have no kernel of their own, and is copied for each of them.
    shutil.rmtree(root / "boot")
    (root / "boot").mkdir()
    distribution, version, _ = apt.distribution()
    return Image(
        name="tiny",
        description=f"Linux, busybox and dropbear from {distribution} {version}, for fast tests",
        os="tiny",
        version=VERSION,
    )


def _skeleton(root: Path) -> None:
    for name in (
        *("boot/grub", "dev", "etc/init.d", "etc/dropbear", "home/baker", "mnt", "opt", "proc", "root", "run", "srv"),
        *("sys", "tmp", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local/bin", "usr/local/sbin"),
        *("var/lib", "var/log", "var/tmp"),
    ):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "root").chmod(0o700)
    (root / "var/run").symlink_to("/run")
    for source, (target, mode) in _SCRIPTS.items():
        shutil.copyfile(_FILES / source, root / target)
        (root / target).chmod(mode)
    for target, text in _TEXTS.items():
        (root / target).write_text(text)
    (root / "etc/shadow").chmod(0o600)
    (root / "etc/os-release").write_text(
        f'ID=tiny\nNAME="Tiny"\nPRETTY_NAME="Tiny guest {VERSION}"\nVERSION_ID="{VERSION}"\n'
    )


def _busybox(root: Path, programs: Path) -> None:
    binary = next(path for name in ("usr/bin/busybox", "bin/busybox") if (path := programs / name).exists())
    shutil.copy(binary, root / "usr/bin/busybox")
    applets = run([binary, "--list-full"]).decode().split()
    for applet in applets:
        # Busybox lists itself. Scripts of our own take the place of applets.
        name = applet if applet.startswith("usr/") else f"usr/{applet}"
        link = root / name
        if link.parent.name not in ("bin", "sbin") or link.exists():
            continue
        # The tree is copied for each machine, and a hard link takes no inode: 60 of them to make, and not 330.
        link.hardlink_to(root / "usr/bin/busybox")


def _programs(root: Path, programs: Path) -> None:
    loader = next(programs.glob("lib*/ld-linux-x86-64.so.2"), None) or next(programs.glob("**/ld-linux-x86-64.so.2"))
    shutil.copy(loader.resolve(), root / "usr/lib64/ld-linux-x86-64.so.2")
    path = ":".join(str(programs / name) for name in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"))
    libraries = root / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir()
    for source, target in _PROGRAMS.items():
        (root / target).unlink(missing_ok=True)
        shutil.copy(programs / source, root / target)
        listing = run([loader, "--library-path", path, "--list", programs / source]).decode()
        for line in listing.splitlines():
            name, arrow, rest = line.strip().partition(" => ")
            if arrow and "/" in rest and not name.startswith("/"):
                shutil.copy(Path(rest.rsplit(" (", 1)[0]), libraries / name)
    # An emulated processor takes seconds to make this one. A quick one is made at the first boot, for each instance.
    key = root / "etc/dropbear/dropbear_rsa_host_key"
    run([loader, "--library-path", path, programs / "usr/bin/dropbearkey", "-t", "rsa", "-f", key])


def _boot(root: Path, kernel: Path, work: Path) -> None:
    """Kernel and initial ramdisk, whose only work is to load modules and mount the root file system."""
    image = next((kernel / "boot").glob("vmlinuz-*"))
    version = image.name.removeprefix("vmlinuz-")
    shutil.copyfile(image, root / "boot/vmlinuz")
    ramdisk = work / "ramdisk"
    for name in ("bin", "dev", "proc", "sys", "root", "modules"):
        (ramdisk / name).mkdir(parents=True)
    shutil.copy(root / "usr/bin/busybox", ramdisk / "bin/busybox")
    for applet in run([ramdisk / "bin/busybox", "--list"]).decode().split():
        if applet != "busybox":
            (ramdisk / "bin" / applet).symlink_to("busybox")
    shutil.copyfile(_FILES / "init.initramfs", ramdisk / "init")
    (ramdisk / "init").chmod(0o755)
    order = _modules(kernel, version, ramdisk / "modules")
    (ramdisk / "modules/order").write_text("".join(f"{name}\n" for name in order))
    names = sorted(str(path.relative_to(ramdisk)) for path in ramdisk.rglob("*"))
    archive = run(
        ["cpio", "--quiet", "--create", "--format=newc", "--owner=0:0"],
        cwd=ramdisk,
        data="".join(f"{name}\n" for name in names).encode(),
    )
    # Uncompressed: without hardware virtualisation, reading is quicker than unpacking.
    (root / "boot/initrd.img").write_bytes(archive)


def _modules(kernel: Path, version: str, target: Path) -> list[str]:
    """Copy the modules into `target`, uncompressed, and return their names in the order to load them."""
    if not (kernel / "lib/modules").exists():
        (kernel / "lib").mkdir(exist_ok=True)
        (kernel / "lib/modules").symlink_to(kernel / "usr/lib/modules")
    run(["depmod", "-b", kernel, version])
    order: list[str] = []
    for module in _MODULES:
        try:
            lines = run(["modprobe", "-d", kernel, "-S", version, "--show-depends", module]).decode()
        except BuildError:
            if module in _OPTIONAL_MODULES:
                continue
            raise
        for line in lines.splitlines():
            if not line.startswith("insmod "):
                continue
            path = Path(line.split()[1])
            name = path.name.partition(".ko")[0] + ".ko"
            if name not in order:
                order.append(name)
                (target / name).write_bytes(_uncompressed(path))
    return order


def _uncompressed(module: Path) -> bytes:
    match module.suffix:
        case ".xz":
            return run(["xz", "--decompress", "--stdout", module])
        case ".zst":
            return run(["zstd", "--decompress", "--stdout", "--quiet", module])
        case _:
            return module.read_bytes()


def _own(root: Path) -> None:
    """Everything is root's, but for the home of `baker`."""
    for path in (root, *root.rglob("*")):
        os.chown(path, 0, 0, follow_symlinks=False)
    shutil.chown(root / "home/baker", 1000, 1000)
