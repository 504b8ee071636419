"""Images that come with a region: built guests, or raw disks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emulators.region.home import RegionError

GIB = 1 << 30


@dataclass(frozen=True)
class Source:
    """An image that is to come with the region."""

    disk: Path
    name: str
    description: str
    os: str
    version: str

    @property
    def mark(self) -> str:
        """Which file it is, and when that was last changed."""
        status = self.disk.stat()
        return f"{self.disk.absolute()}:{status.st_size}:{status.st_mtime_ns}"

    @property
    def gib(self) -> int:
        """Its size in whole GiB, at least one."""
        return max(1, -(-self.disk.stat().st_size // GIB))

    @classmethod
    def read(cls, path: Path, check_name: Callable[[str], str] = str) -> Source:
        """Read `disk.raw` and `image.json` in a directory, or a disk file alone.

        Args:
            path: the directory or the disk file.
            check_name: returns the name as this cloud takes it, or raises ValueError.

        Raises:
            RegionError: there is no such thing there.
        """
        disk = path / "disk.raw" if path.is_dir() else path
        description = path / "image.json" if path.is_dir() else path.with_suffix(".json")
        if not disk.is_file():
            raise RegionError(f"no disk at {disk}: --image takes a directory with disk.raw, or a raw disk file")
        told: dict[str, object] = {}
        try:
            if description.exists():
                told = json.loads(description.read_text())
            default = path.name if path.is_dir() else path.stem
            return cls(
                disk=disk,
                name=check_name(str(told.get("name", default))),
                description=str(told.get("description", "")),
                os=str(told.get("os", "unknown")),
                version=str(told.get("version", "unknown")),
            )
        except ValueError as error:
            raise RegionError(f"{description}: {error}") from None
