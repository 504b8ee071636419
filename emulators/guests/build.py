"""Which guests there are, and building one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from emulators.guests import apt, debian, tiny
from emulators.guests.image import build_image
from emulators.guests.run import progress

_BUILDERS = {"tiny": tiny.build, "debian": debian.build}
GUESTS = tuple(_BUILDERS)


def build_guest(guest: str, output: Path) -> Path:
    """Build a guest under `output` unless it is up to date, and return its directory.

    Raises:
        BuildError: a step failed; nothing half-built is left.
    """
    progress(f"{guest}: looking")
    directory = output / guest
    build_image(directory, _stamp(guest), _BUILDERS[guest])
    return directory


def _stamp(guest: str) -> str:
    """What the image was made by: its builder's files and the distribution. Another stamp means another image."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for file in sorted([here / "apt.py", here / "disk.py", here / f"{guest}.py", *here.glob(f"{guest}_files/*")]):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return " ".join((guest, *apt.distribution(), digest.hexdigest()[:16]))
