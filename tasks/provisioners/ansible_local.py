"""`ansible-local`: run a playbook inside the system that is being made (Packer's `ansible-local` provisioner)."""

from __future__ import annotations

import asyncio
import posixpath
import secrets
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from blocks.errors import Mistake, ProvisionerFailed
from tasks.communicator import must, read
from tasks.output import Lines
from tasks.provisioners.ansible import InventoryName
from tasks.provisioners.ansible_playbook import build_variables, check_ended, kinds_of_requirements
from tasks.provisioners.common import Bench, ProvisionerOptions, file_errors, on_this_host

_COMMAND = "ANSIBLE_FORCE_COLOR=0 PYTHONUNBUFFERED=1 ansible-playbook"
_COLLECTIONS = "ansible_collections"
_NOT_FOUND = 127
_REMOVAL = 30


class AnsibleLocal(ProvisionerOptions):
    """Run an Ansible playbook inside the system that is being made, which needs Ansible for it."""

    type: Literal["ansible-local"] = Field(title="Type", json_schema_extra={"position": 0})
    playbook_file: str | None = Field(
        default=None,
        title="Playbook",
        description="Path of the playbook on the host that builds; relative to the definition's file.",
        min_length=1,
        json_schema_extra={"position": 2},
    )
    playbook_files: list[str] | None = Field(
        default=None,
        title="Playbooks",
        description="Several playbooks, run one after the other. Give either these or one.",
        min_length=1,
        json_schema_extra={"position": 3},
    )
    playbook_dir: str | None = Field(
        default=None,
        title="Playbook directory",
        description="A directory whose contents are copied first; playbook_files in it are run where they are in it.",
        min_length=1,
        json_schema_extra={"position": 4},
    )
    playbook_paths: list[str] = Field(
        default_factory=list,
        title="Further playbooks",
        description="Directories that are copied to playbooks/.",
        json_schema_extra={"position": 5},
    )
    role_paths: list[str] = Field(
        default_factory=list,
        title="Roles",
        description="Directories, a role each, that are copied to roles/.",
        json_schema_extra={"position": 6},
    )
    collection_paths: list[str] = Field(
        default_factory=list,
        title="Collections",
        description=f"Directories that are named {_COLLECTIONS}, or hold one of that name.",
        json_schema_extra={"position": 7},
    )
    group_vars: str | None = Field(
        default=None,
        title="Group variables",
        description="A directory with variables of groups.",
        min_length=1,
        json_schema_extra={"position": 8},
    )
    host_vars: str | None = Field(
        default=None,
        title="Host variables",
        description="A directory with variables of hosts.",
        min_length=1,
        json_schema_extra={"position": 9},
    )
    inventory_file: str | None = Field(
        default=None,
        title="Inventory",
        description="An inventory of your own; extra_arguments then need a --limit. By default the host is 127.0.0.1.",
        min_length=1,
        json_schema_extra={"position": 10},
    )
    inventory_groups: list[InventoryName] = Field(
        default_factory=list,
        title="Groups",
        description="Inventory groups that 127.0.0.1 is in.",
        json_schema_extra={"position": 11},
    )
    extra_arguments: list[str] = Field(
        default_factory=list,
        title="Extra arguments",
        description="Further arguments of the command: shell text there, in which blanks have to be quoted.",
        json_schema_extra={"position": 12},
    )
    galaxy_file: str | None = Field(
        default=None,
        title="Galaxy requirements",
        description="A requirements file: its roles and collections are installed there first.",
        min_length=1,
        json_schema_extra={"position": 13},
    )
    galaxy_command: str = Field(
        default="ansible-galaxy",
        title="Galaxy command",
        description="How they are installed: shell text there.",
        min_length=1,
        json_schema_extra={"position": 14},
    )
    command: str = Field(
        default=_COMMAND,
        title="Command",
        description="How playbooks are run: shell text there, such as `sudo -n ansible-playbook`.",
        min_length=1,
        json_schema_extra={"position": 15},
    )
    staging_directory: str | None = Field(
        default=None,
        title="Staging directory",
        description="Where everything is copied there; by default a new directory in /tmp.",
        pattern=r"^/[^/].*$",
        json_schema_extra={"position": 16},
    )
    clean_staging_directory: bool | None = Field(
        default=None,
        title="Clean up",
        description="Remove the staging directory in the end; by default only one that has no name given.",
        json_schema_extra={"position": 17},
    )

    @model_validator(mode="after")
    def _check(self) -> AnsibleLocal:
        if (self.playbook_file is None) == (self.playbook_files is None):
            raise ValueError("needs exactly one of playbook_file and playbook_files")
        if self.inventory_file is not None and self.inventory_groups:
            raise ValueError("inventory_groups are for the inventory that inventory_file takes the place of: give one")
        depth = len(posixpath.normpath(self.staging_directory or "/a/b").strip("/").split("/"))
        if self.clean_staging_directory and depth < 2:
            raise ValueError("clean_staging_directory would remove a top-level directory: use one below it")
        return self

    def files_here(self) -> list[tuple[str, str]]:
        """Everything that is copied."""
        one = ("playbook_file", "playbook_dir", "group_vars", "host_vars", "inventory_file", "galaxy_file")
        many = ("playbook_files", "playbook_paths", "role_paths", "collection_paths")
        return [
            *((name, path) for name in one if (path := getattr(self, name)) is not None),
            *((f"{name}[{place}]", path) for name in many for place, path in enumerate(getattr(self, name) or ())),
        ]

    def missing_here(self, base: Path, option: str) -> list[Mistake]:
        """The files and directories that are to be copied and are not there."""
        found = super().missing_here(base, option)
        for place, path in enumerate(self.collection_paths):
            here = on_this_host(base, path)
            if here.exists() and _collections_in(here) is None:
                rule = f"must be named {_COLLECTIONS} or hold a directory of that name"
                found.append(Mistake(f"{option}.collection_paths[{place}]", rule, path))
        return found

    async def provision(self, bench: Bench) -> None:
        """Copy everything there, install what the requirements name, and run the playbooks.

        Raises:
            ProvisionerFailed: Ansible failed, with its own words; or it is not there.
        """
        if self.command == _COMMAND:
            code, _ = await read(bench.communicator, "command -v ansible-playbook")
            if code != 0:
                raise self._not_there("ansible-playbook")
        staging = self.staging_directory or f"/tmp/ansible-local-{secrets.token_hex(8)}"  # noqa: S108
        clean = self.staging_directory is None if self.clean_staging_directory is None else self.clean_staging_directory
        try:
            await self._copy(bench, staging)
            for argv in self._galaxy(bench.base, staging):
                await self._run(bench, f"cd {shlex.quote(staging)} && {self.galaxy_command} {shlex.join(argv)}")
            for playbook in self._playbooks(bench.base):
                words = [
                    shlex.quote(posixpath.join(staging, playbook)),
                    *("--extra-vars", shlex.quote(build_variables(bench))),
                    *self.extra_arguments,
                    *("-c", "local", "-i", shlex.quote(posixpath.join(staging, self._inventory))),
                ]
                await self._run(bench, f"cd {shlex.quote(staging)} && {self.command} {' '.join(words)}")
        finally:
            if clean:
                with suppress(Exception):
                    async with asyncio.timeout(_REMOVAL):
                        await read(bench.communicator, f"rm -rf {shlex.quote(staging)}")

    async def _copy(self, bench: Bench, staging: str) -> None:
        there = bench.communicator
        directories = dict(self._directories(bench.base))
        files = dict(self._files(bench.base))
        parents = {posixpath.dirname(posixpath.join(staging, name)) for name in (*directories, *files)} | {staging}
        made = " ".join(shlex.quote(parent) for parent in sorted(parents))
        await must(there, f"mkdir -p {made}", what=f"make {staging}")
        for name, here in directories.items():
            await there.upload_directory(here, posixpath.join(staging, name).removesuffix("/"))
        for name, source in files.items():
            await there.upload(source, posixpath.join(staging, name), 0o644)
        bench.logger.info("Copied %d directories and %d files to %s", len(directories), len(files), staging)

    def _directories(self, base: Path) -> Iterator[tuple[str, Path]]:
        """What is copied as a whole: where in the staging directory, and from where."""
        if self.playbook_dir is not None:
            yield "", on_this_host(base, self.playbook_dir)
        for name in ("group_vars", "host_vars"):
            if (path := getattr(self, name)) is not None:
                yield name, on_this_host(base, path)
        for name, paths in (("roles", self.role_paths), ("playbooks", self.playbook_paths)):
            for path in paths:
                here = on_this_host(base, path)
                yield f"{name}/{here.resolve().name}", here
        for path in self.collection_paths:
            here = _collections_in(on_this_host(base, path)) or on_this_host(base, path)
            yield f"collections/{_COLLECTIONS}", here

    def _files(self, base: Path) -> Iterator[tuple[str, Path | bytes]]:
        if self.playbook_file is not None:
            yield Path(self.playbook_file).name, on_this_host(base, self.playbook_file)
        for path in self.playbook_files or ():
            if not self._is_in_playbook_dir(base, path):
                yield self._name_there(base, path), on_this_host(base, path)
        if self.galaxy_file is not None:
            yield Path(self.galaxy_file).name, on_this_host(base, self.galaxy_file)
        if self.inventory_file is not None:
            yield self._inventory, on_this_host(base, self.inventory_file)
        else:
            groups = "".join(f"[{group}]\n127.0.0.1\n" for group in self.inventory_groups)
            yield self._inventory, (groups or "127.0.0.1\n").encode()

    @property
    def _inventory(self) -> str:
        return Path(self.inventory_file).name if self.inventory_file is not None else "image-bakery-inventory"

    def _playbooks(self, base: Path) -> list[str]:
        """Where in the staging directory they are."""
        if self.playbook_file is not None:
            return [Path(self.playbook_file).name]
        return [self._name_there(base, path) for path in self.playbook_files or ()]

    def _is_in_playbook_dir(self, base: Path, path: str) -> bool:
        return self.playbook_dir is not None and on_this_host(base, path).resolve().is_relative_to(
            on_this_host(base, self.playbook_dir).resolve()
        )

    def _name_there(self, base: Path, path: str) -> str:
        here = on_this_host(base, path).resolve()
        roots = [on_this_host(base, self.playbook_dir).resolve()] if self.playbook_dir is not None else []
        for root in (*roots, base.resolve()):
            if here.is_relative_to(root):
                return here.relative_to(root).as_posix()
        return here.as_posix().lstrip("/")

    def _galaxy(self, base: Path, staging: str) -> Iterator[list[str]]:
        if self.galaxy_file is None:
            return
        file = posixpath.join(staging, Path(self.galaxy_file).name)
        here = on_this_host(base, self.galaxy_file)
        with file_errors(self.called, here):
            kinds = kinds_of_requirements(here)
        for kind in kinds:
            yield [kind, "install", "-r", file, "-p", posixpath.join(staging, f"{kind}s")]

    async def _run(self, bench: Bench, command: str) -> None:
        lines = Lines(bench.logger.info)
        try:
            code = await bench.communicator.run(command, lines.feed)
        finally:
            lines.end()
        # sudo has no exit code of its own for it.
        if code == _NOT_FOUND or (code == 1 and lines.tail and lines.tail[-1].endswith(": command not found")):
            raise self._not_there("; ".join(lines.tail) or self.command)
        check_ended(self.called, "Ansible", code, lines.tail)

    def _not_there(self, what: str) -> ProvisionerFailed:
        return ProvisionerFailed(
            "the system that is being made has no Ansible",
            resource=self.called,
            why=f"not found there: {what}",
            hint="Install it first, as by a shell provisioner (apt-get install ansible-core), or give a command that "
            "leads to it; or use the ansible provisioner, which runs on the host that builds.",
        )


def _collections_in(here: Path) -> Path | None:
    if here.resolve().name == _COLLECTIONS:
        return here
    return here / _COLLECTIONS if (here / _COLLECTIONS).is_dir() else None
