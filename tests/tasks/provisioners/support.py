from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from tasks.communicator import Output
from tasks.provisioners.common import Bench


@dataclass
class FakeGuest:
    """A communicator that writes down what it is asked."""

    code: int = 0
    says: list[bytes] = field(default_factory=list)
    breaks: BaseException | None = None
    commands: list[str] = field(default_factory=list)
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """All that was ever uploaded: contents and mode."""
    order: list[str] = field(default_factory=list)
    directories: list[tuple[Path, str]] = field(default_factory=list)
    downloads: list[tuple[str, Path]] = field(default_factory=list)
    directories_there: list[str] = field(default_factory=list)
    """What is a directory there."""

    async def run(self, command: str, output: Output) -> int:
        self.commands.append(command)
        if command.startswith("test -d "):
            return int(command.removeprefix("test -d ") not in self.directories_there)
        if command.startswith(("rm -f ", "mkdir -p ")):
            return 0
        if self.breaks is not None:
            raise self.breaks
        for data in self.says:
            output(data)
        return self.code

    async def upload(self, source: Path | bytes, destination: str, mode: int) -> None:
        contents = source if isinstance(source, bytes) else source.read_bytes()
        self.files[destination] = (contents, mode)
        self.order.append(destination)

    async def upload_directory(self, source: Path, destination: str) -> None:
        self.directories.append((source, destination))

    async def download(self, source: str, destination: Path) -> None:
        self.downloads.append((source, destination))
        destination.write_bytes(b"from there")

    async def download_directory(self, source: str, destination: Path) -> None:
        self.downloads.append((source, destination))


def bench(guest: FakeGuest, base: Path, **variables: str) -> Bench:
    return Bench(guest, logging.getLogger("image_bakery.test"), base, variables)
