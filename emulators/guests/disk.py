"""A disk that boots by itself, made without mounting anything and without root's rights.

An MBR with one ext4 partition, and GRUB in the gap before it. GRUB's own installer wants a block device, so its two
pieces are placed by hand, where their defaults expect each other: `boot.img` in sector 0 loads sector 1, and the first
sector of a core image loads the rest of it from sector 2 on (see "Images" in GRUB's manual, "BIOS installation").
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from emulators.guests.run import BuildError, run

SECTOR = 512
PARTITION_START = 1024 * 1024
"""Bytes before the partition: room for GRUB, and the alignment that partitioning tools expect."""

_PARTITION_TABLE = 446
_LINUX = 0x83
_GRUB = Path("/usr/lib/grub/i386-pc")
_GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "normal", "linux", "linux16", "serial")
# Features that GRUB 2.06 cannot read; newer versions of mke2fs set them by default.
_FEATURES = "^metadata_csum_seed,^orphan_file"


def build_disk(disk: Path, root: Path, size: int, *, label: str, journal: int) -> None:
    """Write a sparse disk of `size` bytes whose partition holds the tree `root`, which GRUB boots.

    The tree has its own `/boot/grub/grub.cfg`. `journal` is the size of ext4's journal in MiB.

    Raises:
        BuildError: a program failed, or the tree does not fit.
    """
    with disk.open("wb") as file:
        file.truncate(size)
    blocks = (size - PARTITION_START) // 4096
    # fmt: off
    run([
        "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-L", label, "-O", _FEATURES,
        "-J", f"size={journal}", "-E", f"offset={PARTITION_START},nodiscard", "-d", root, disk, str(blocks),
    ])
    # fmt: on
    with tempfile.TemporaryDirectory() as temporary:
        core = Path(temporary, "core.img")
        prefix = "(hd0,msdos1)/boot/grub"
        run(["grub-mkimage", "-O", "i386-pc", "-d", _GRUB, "-p", prefix, "-o", core, *_GRUB_MODULES])
        code = core.read_bytes()
    if SECTOR + len(code) > PARTITION_START:
        raise BuildError(f"GRUB takes {len(code)} bytes and does not fit before the partition")
    with disk.open("r+b") as file:
        file.write((_GRUB / "boot.img").read_bytes()[:_PARTITION_TABLE])
        file.write(_partition_table(PARTITION_START // SECTOR, (size - PARTITION_START) // SECTOR))
        file.write(code)


def _partition_table(start: int, count: int) -> bytes:
    """One bootable Linux partition, in sectors; its CHS fields say "use the sector numbers"."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", _LINUX, b"\xfe\xff\xff", start, count)
    return entry + bytes(48) + b"\x55\xaa"
