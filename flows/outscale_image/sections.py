"""The sections of the `outscale-chroot` builder's form."""

from __future__ import annotations

from flows.forms import Section

SECTIONS = (
    Section(
        "omi",
        "More about the OMI",
        "Description, tags, permissions, boot; replace one. As it is: the source's.",
        range(11, 30),
    ),
    Section("volume", "Volume", "Its size, type, tags and device. As it is: as large as the source.", range(30, 38)),
    Section("chroot", "Chroot", "What is mounted, copied and run around it.", range(38, 50)),
    Section("waits", "Waits", "How long the region may take for each step.", range(60, 70)),
    Section("access", "Access without a credentials block", "Region and keys, or a profile.", range(100, 110)),
    Section("unused", "Options of Packer's that do little", "Taken so that definitions carry over.", range(110, 130)),
    Section("endings", "Failure and time", "What becomes of a build that fails, its time-out.", range(800, 1000)),
)
