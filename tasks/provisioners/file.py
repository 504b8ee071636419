"""`file`: copy files to and from the system that is being made (Packer's `file` provisioner)."""

from __future__ import annotations

import posixpath
import shlex
import stat
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from blocks.errors import Mistake
from tasks.communicator import must
from tasks.provisioners.common import Bench, ProvisionerOptions, must_exist


class File(ProvisionerOptions):
    """Copy a file or a directory."""

    type: Literal["file"] = Field(title="Type", json_schema_extra={"position": 0})
    source: str | None = Field(
        default=None,
        title="Source",
        description="A file or directory. A directory with a trailing / copies its contents, without it itself.",
        min_length=1,
        json_schema_extra={"position": 2},
    )
    content: str | None = Field(
        default=None,
        title="Content",
        description="The file's contents, in place of a source.",
        json_schema_extra={"position": 3},
    )
    destination: str = Field(
        title="Destination",
        description="Where it goes. One that ends in / takes the source's base name.",
        min_length=1,
        json_schema_extra={"position": 4},
    )
    direction: Literal["upload", "download"] = Field(
        default="upload",
        title="Direction",
        description="upload: to the system that is being made; download: from there (single files).",
        json_schema_extra={"position": 5},
    )

    @model_validator(mode="after")
    def _check(self) -> File:
        if (self.source is None) == (self.content is None):
            raise ValueError("needs exactly one of source and content")
        if self.direction == "download" and self.content is not None:
            raise ValueError("content can only be uploaded")
        if self.direction == "download" and str(self.source).endswith("/"):
            raise ValueError("directories cannot be downloaded yet: name the file")
        if self.content is not None and self.destination.endswith("/"):
            raise ValueError("content needs a destination that names the file")
        return self

    def missing_here(self, base: Path, option: str) -> list[Mistake]:
        """The source of an upload, when it is not there."""
        if self.direction == "upload" and self.source is not None:
            return must_exist(base, self.source, f"{option}.source")
        return []

    async def provision(self, bench: Bench) -> None:
        """Copy.

        Raises:
            CommunicatorError: it could not be read or written there.
            OSError: it could not be read or written here.
        """
        if self.direction == "download":
            await self._download(bench)
        elif self.content is not None:
            await bench.communicator.upload(self.content.encode(), self.destination, 0o644)
            bench.logger.info("Wrote %s", self.destination)
        else:
            await self._upload(bench, str(self.source))

    async def _upload(self, bench: Bench, named: str) -> None:
        source = bench.here(named)
        there = self.destination
        if source.is_dir():
            if not named.endswith("/"):
                there = posixpath.join(there, source.name)
                # The directory itself is made by the upload, with its own mode.
                above = posixpath.dirname(there) or "."
                await must(bench.communicator, f"mkdir -p {shlex.quote(above)}", what=f"make {above}")
            await bench.communicator.upload_directory(source, there)
        else:
            there = posixpath.join(there, source.name) if there.endswith("/") else there
            await bench.communicator.upload(source, there, stat.S_IMODE(source.stat().st_mode))
        bench.logger.info("Copied %s to %s", named, there)

    async def _download(self, bench: Bench) -> None:
        here = bench.here(self.destination)
        if self.destination.endswith("/"):
            here = here / posixpath.basename(str(self.source))
        here.parent.mkdir(parents=True, exist_ok=True)
        await bench.communicator.download(str(self.source), here)
        bench.logger.info("Copied %s to %s on this host", self.source, here)
