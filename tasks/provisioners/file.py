"""`file`: copy files to and from the system that is being made (Packer's `file` provisioner)."""

from __future__ import annotations

import posixpath
import re
import shlex
import stat
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from blocks.errors import Mistake, ProvisionerFailed
from tasks.communicator import must, read
from tasks.provisioners.common import Bench, ProvisionerOptions, file_errors, on_this_host

_WILD = re.compile(r"[*?\[]")


class File(ProvisionerOptions):
    """Copy files or directories."""

    type: Literal["file"] = Field(title="Type", json_schema_extra={"position": 0})
    source: str | None = Field(
        default=None,
        title="Source",
        description="A file or directory. A directory with a trailing / copies its contents, without it itself. "
        "In a download it may hold * ? and [ ].",
        min_length=1,
        json_schema_extra={"position": 2},
    )
    sources: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None,
        title="Sources",
        description="Several of them.",
        min_length=1,
        json_schema_extra={"position": 3},
    )
    content: str | None = Field(
        default=None,
        title="Content",
        description="The file's contents, in place of a source. Only its owner may read the file, as with Packer.",
        json_schema_extra={"position": 4},
    )
    destination: str = Field(
        title="Destination",
        description="Where it goes. One that ends in / takes the source's base name.",
        min_length=1,
        json_schema_extra={"position": 5},
    )
    direction: Literal["upload", "download"] = Field(
        default="upload",
        title="Direction",
        description="upload: to the system that is being made; download: from there.",
        json_schema_extra={"position": 6},
    )
    generated: bool = Field(
        default=False,
        title="Generated",
        description="The source comes into being during the build: it need not be there before.",
        json_schema_extra={"position": 7},
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(value is not None for value in (self.source, self.sources, self.content)) != 1:
            raise ValueError("needs exactly one of source, sources and content")
        if self.direction == "download" and self.content is not None:
            raise ValueError("content can only be uploaded")
        if self.content is not None and self.destination.endswith("/"):
            raise ValueError("content needs a destination that names the file")
        if self.direction == "download" and any("\n" in source for source in self._sources()):
            raise ValueError("the name of what is downloaded cannot hold a newline")
        return self

    def _sources(self) -> list[str]:
        return self.sources if self.sources is not None else [self.source] if self.source is not None else []

    def files_here(self) -> list[tuple[str, str]]:
        """The sources of an upload that have to be there before it."""
        if self.direction == "download" or self.generated:
            return []
        if self.source is not None:
            return [("source", self.source)]
        return [(f"sources[{place}]", path) for place, path in enumerate(self.sources or ())]

    def missing_here(self, base: Path, option: str) -> list[Mistake]:
        """The sources of an upload, when they are not there, and those that would take each other's place."""
        found = super().missing_here(base, option)
        for named, path in self.files_here():
            here = on_this_host(base, path)
            if path.endswith("/") and here.is_file():
                found.append(Mistake(f"{option}.{named}", "ends in / and is a file", path))
            elif self._collides(here):
                found.append(Mistake(f"{option}.destination", "must end in / for several files", self.destination))
                break
        return found

    def _collides(self, source: Path) -> bool:
        return len(self._sources()) > 1 and source.is_file() and not self.destination.endswith("/")

    async def provision(self, bench: Bench) -> None:
        """Copy.

        Raises:
            CommunicatorError: it could not be read or written there.
            ProvisionerFailed: it could not be read or written here, or there is nothing to copy.
        """
        if self.content is not None:
            await bench.communicator.upload(self.content.encode(), self.destination, 0o600)
            bench.logger.info("Wrote %s", self.destination)
        for source in self._sources():
            with file_errors(self.called, bench.here(source if self.direction == "upload" else self.destination)):
                await (self._upload if self.direction == "upload" else self._download)(bench, source)

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
            if self._collides(source):
                raise ProvisionerFailed(
                    "several files need a destination that ends in /", resource=self.called, why=f"{named} is a file"
                )
            there = posixpath.join(there, source.name) if there.endswith("/") else there
            await bench.communicator.upload(source, there, stat.S_IMODE(source.stat().st_mode))
        bench.logger.info("Copied %s to %s", named, there)

    async def _download(self, bench: Bench, source: str) -> None:
        if _WILD.search(source):
            found = await self._matches(bench, source)
            for path in found:
                await self._fetch(bench, path, f"{self.destination.rstrip('/')}/")
        else:
            await self._fetch(bench, source, self.destination)

    async def _fetch(self, bench: Bench, source: str, destination: str) -> None:
        here = bench.here(destination)
        contents = source.endswith("/")
        directory = contents or (await read(bench.communicator, f"test -d {shlex.quote(source)}"))[0] == 0
        if not contents and (directory or destination.endswith("/")):
            here /= posixpath.basename(source)
        here.parent.mkdir(parents=True, exist_ok=True)
        copy = bench.communicator.download_directory if directory else bench.communicator.download
        await copy(source, here)
        bench.logger.info("Copied %s to %s on this host", source, here)

    async def _matches(self, bench: Bench, pattern: str) -> list[str]:
        """What a pattern matches there, by that system's own shell."""
        command = f'for file in {_quoted_but_wild(pattern)}; do ! test -e "$file" || printf "%s\\0" "$file"; done'
        said = bytearray()
        await bench.communicator.run(command, said.extend)
        found = [path.decode(errors="surrogateescape") for path in bytes(said).split(b"\0") if path]
        if not found:
            raise ProvisionerFailed(
                "nothing there matches",
                resource=self.called,
                why=pattern,
                hint="Is it spelt right, and may the build's user look there?",
            )
        return found


def _quoted_but_wild(pattern: str) -> str:
    """A pattern for a shell in which `*`, `?` and `[…]` alone have a meaning (POSIX.1, XCU 2.13)."""
    return re.sub(r"[^\w/.*?\[\]!^-]", lambda match: "\\" + match[0], pattern)
