"""The Debian packages that building and running guests need, in this one place."""

from __future__ import annotations

BUILD = (
    "cpio",  # the initial ramdisk of tiny
    "dpkg",
    "e2fsprogs",  # mke2fs -d fills a file system without mounting it
    "grub-common",  # grub-mkimage
    "grub-pc-bin",
    "kmod",  # modprobe --show-depends orders the modules of tiny
    "mmdebstrap",
    "uidmap",  # user namespaces with more than one user, for builds without root
    "xz-utils",
    "zstd",  # compressed kernel modules on Ubuntu
)

RUN = (
    "coreutils",
    "dosfstools",  # the cidata disk
    "mtools",
    "qemu-system-x86",
    "util-linux",  # setpriv, unshare
)

ALL = tuple(sorted({*BUILD, *RUN}))
