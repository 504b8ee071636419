"""Guest images, built from packages of this machine's own apt sources.

`tiny` boots in seconds without hardware virtualisation: a kernel, busybox, dropbear, and nothing else. `debian` (or
`ubuntu`, after the machine it is built on) is a real distribution with systemd and cloud-init. Each is a directory with
`disk.raw`, a sparse disk that boots by itself, and `image.json`, which says what it is. `tiny` also has `root`, the
same files as a tree, for machines without a kernel of their own.

`python -m emulators.guests build tiny debian --output var/guests` builds them.
"""

from __future__ import annotations

from pathlib import Path

DEFAULT_DIRECTORY = Path("var/guests")
"""Where guests are built and looked for, relative to the current directory."""

DIRECTORY_VARIABLE = "IMAGE_BAKERY_GUESTS"
"""Environment variable that names another directory than `DEFAULT_DIRECTORY`."""
