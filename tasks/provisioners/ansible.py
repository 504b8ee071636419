"""`ansible`: run a playbook from this host against the system that is being made (Packer's `ansible` provisioner).

Ansible reaches it over the build's own connection (`tasks.provisioners.ansible_requests`), whatever that is: there is
no second log-in, no proxy and no key on disk.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from blocks.errors import Mistake, ProvisionerFailed
from blocks.references import SecretReference
from tasks.communicator import read
from tasks.masking import keep_secret
from tasks.provisioners.ansible_here import (
    add_connection,
    ansible_environment,
    find_program,
    private_directory,
    run_here,
)
from tasks.provisioners.ansible_playbook import build_variables, kinds_of_requirements
from tasks.provisioners.ansible_requests import Requests, answering
from tasks.provisioners.ansible_without_effect import PackersOwn
from tasks.provisioners.common import Bench, file_errors, on_this_host
from tasks.provisioners.script import VariableName

InventoryName = Annotated[str, StringConstraints(pattern=r"^[^\s\[\]=:,!&#'\"]+$")]
"""A name as an inventory in INI form takes it."""

_TEMPLATE = re.compile(r"\{\{\s*\.?(\w+)\s*\}\}")
_TEMPLATE_VARIABLES = {"HostAlias", "Host", "User", "Port"}
_LIMIT = re.compile(r"^(-l.*|--limit(=.*)?)$")


class Ansible(PackersOwn):
    """Run an Ansible playbook from the host that builds.

    It goes over the build's own connection. So Packer's options for a second one (`use_proxy`, `local_port`,
    `sftp_command` and their like) are taken, and do nothing but warn.
    """

    type: Literal["ansible"] = Field(title="Type", json_schema_extra={"position": 0})
    playbook_file: str = Field(
        title="Playbook",
        description="Path of the playbook on the host that builds; relative to the definition's file.",
        min_length=1,
        json_schema_extra={"position": 2},
    )
    extra_arguments: list[str] = Field(
        default_factory=list,
        title="Extra arguments",
        description="Further arguments of ansible-playbook, each as it is: no shell. Other users of the host that "
        "builds can read them: secrets belong into ansible_env_vars.",
        json_schema_extra={"position": 3},
    )
    ansible_env_vars: dict[VariableName, str | SecretReference] | list[str] = Field(
        default_factory=dict,
        title="Environment",
        description="Environment variables for Ansible: values, or references to secrets; or a list of NAME=VALUE. "
        "Otherwise it has the environment of the process that builds, without this product's own and without secrets.",
        json_schema_extra={"position": 4},
    )
    groups: list[InventoryName] = Field(
        default_factory=list,
        title="Groups",
        description="Inventory groups that the system is in.",
        json_schema_extra={"position": 5},
    )
    empty_groups: list[InventoryName] = Field(
        default_factory=list,
        title="Empty groups",
        description="Inventory groups that exist and have no host.",
        json_schema_extra={"position": 6},
    )
    host_alias: InventoryName | None = Field(
        default=None,
        title="Host alias",
        description="The system's name in the inventory; by default `default`. Required with inventory_file.",
        json_schema_extra={"position": 7},
    )
    user: InventoryName | None = Field(
        default=None,
        title="User",
        description="The variable ansible_user; by default who the build logs in as. It changes no log-in.",
        json_schema_extra={"position": 8},
    )
    inventory_file: str | None = Field(
        default=None,
        title="Inventory",
        description="An inventory of your own. The host that host_alias names is the system that is being made, "
        "whatever else is said about it there, and, with localhost, the only one that plays run on, unless "
        "extra_arguments have a --limit.",
        min_length=1,
        json_schema_extra={"position": 9},
    )
    inventory_directory: str | None = Field(
        default=None,
        title="Inventory directory",
        description="A directory with group_vars and host_vars, in which the generated inventory is put for a while.",
        min_length=1,
        json_schema_extra={"position": 10},
    )
    inventory_file_template: str | None = Field(
        default=None,
        title="Inventory template",
        description="The host's line in the generated inventory, with {{ .HostAlias }}, {{ .Host }}, {{ .User }} and "
        "{{ .Port }}. How the host is reached stays the build's matter.",
        min_length=1,
        json_schema_extra={"position": 11},
    )
    galaxy_file: str | None = Field(
        default=None,
        title="Galaxy requirements",
        description="A requirements file: its roles and collections are installed on the host that builds first.",
        min_length=1,
        json_schema_extra={"position": 12},
    )
    galaxy_command: str = Field(
        default="ansible-galaxy",
        title="Galaxy command",
        description="The program that installs them: a name on PATH, or a path.",
        min_length=1,
        json_schema_extra={"position": 13},
    )
    galaxy_force_install: bool = Field(
        default=False,
        title="Force galaxy",
        description="Install them again where they are there already.",
        json_schema_extra={"position": 14},
    )
    galaxy_force_with_deps: bool = Field(
        default=False,
        title="Force galaxy with dependencies",
        description="The same for what they depend on.",
        json_schema_extra={"position": 15},
    )
    roles_path: str | None = Field(
        default=None,
        title="Roles path",
        description="Where roles are installed and looked for.",
        min_length=1,
        json_schema_extra={"position": 16},
    )
    collections_path: str | None = Field(
        default=None,
        title="Collections path",
        description="Where collections are installed and looked for.",
        min_length=1,
        json_schema_extra={"position": 17},
    )
    command: str = Field(
        default="ansible-playbook",
        title="Command",
        description="The program that runs playbooks: a name on PATH, or a path. No shell text.",
        min_length=1,
        json_schema_extra={"position": 18},
    )

    @field_validator("ansible_env_vars")
    @classmethod
    def _pairs(cls, given: dict[str, str | SecretReference] | list[str]) -> dict[str, str | SecretReference]:
        if isinstance(given, dict):
            return given
        if wrong := [pair for pair in given if not re.match(r"[A-Za-z_][A-Za-z0-9_]*=", pair)]:
            raise ValueError(f"must be NAME=VALUE: {wrong[0].partition('=')[0]!r} is no name with a value")
        return {name: value for name, _, value in (pair.partition("=") for pair in given)}

    @model_validator(mode="after")
    def _check(self) -> Ansible:
        if self.inventory_file is not None:
            if self.host_alias is None:
                raise ValueError("inventory_file needs host_alias: the name there of the system that is being made")
            if self.inventory_directory is not None or self.inventory_file_template is not None:
                raise ValueError(
                    "inventory_file takes the place of inventory_directory and inventory_file_template: give one"
                )
        unknown = set(_TEMPLATE.findall(self.inventory_file_template or "")) - _TEMPLATE_VARIABLES
        if unknown:
            raise ValueError(
                "inventory_file_template knows {{ .HostAlias }}, {{ .Host }}, {{ .User }} and {{ .Port }}, "
                f"not {', '.join(sorted(unknown))}"
            )
        return self

    def files_here(self) -> list[tuple[str, str]]:
        """Playbook, inventory, requirements."""
        names = ("playbook_file", "inventory_file", "inventory_directory", "galaxy_file")
        return [(name, path) for name in names if (path := getattr(self, name)) is not None]

    def missing_here(self, base: Path, option: str) -> list[Mistake]:
        """What it names and this host does not have; Ansible itself, too."""
        found = super().missing_here(base, option)
        for name in ("command", *(("galaxy_command",) if self.galaxy_file else ())):
            if find_program(base, getattr(self, name)) is None:
                rule = (
                    "must be a program on the host that builds: install Ansible there "
                    "(pipx install --include-deps ansible, or apt-get install ansible-core)"
                )
                found.append(Mistake(f"{option}.{name}", rule, getattr(self, name), of_host=True))
        return found

    async def provision(self, bench: Bench) -> None:
        """Install what the requirements name, then run the playbook.

        Raises:
            ProvisionerFailed: Ansible failed; with its own words.
            ConnectionLost: the connection broke, and Ansible could not go on without it.
            SecretUnavailable: a reference in `ansible_env_vars` leads nowhere.
        """
        self.warn(bench.logger)
        with private_directory(bench) as private:
            socket = private / "socket"
            environment = await self._environment(bench, socket)
            for argv in self._galaxy(bench.base):
                await run_here(bench, self.called, argv, environment)
            async with answering(bench.communicator, socket) as requests:
                with self._inventories(bench, private, requests.user) as inventories:
                    await self._play(bench, environment, inventories, requests)

    async def _play(
        self, bench: Bench, environment: dict[str, str], inventories: Iterable[Path], requests: Requests
    ) -> None:
        argv = [self._found(bench.base, self.command), "--extra-vars", build_variables(bench)]
        for inventory in inventories:
            argv += ["--inventory", str(inventory)]
        if self.inventory_file is not None and not any(map(_LIMIT.match, self.extra_arguments)):
            argv += ["--limit", f"{self._alias},localhost"]
        argv += [*self.extra_arguments, str(bench.here(self.playbook_file))]
        try:
            await run_here(bench, self.called, argv, environment)
        except ProvisionerFailed as error:
            if requests.lost is not None:
                raise requests.lost from error
            _, python = await read(bench.communicator, _FIND_PYTHON)
            if not python:
                error.hint = (
                    "The system that is being made has no Python, which Ansible's modules need: install it first, "
                    "as by a shell provisioner (apt-get install python3)."
                )
            raise
        if requests.commands == 0:
            bench.logger.warning(
                "The playbook did nothing to the system that is being made: none of its plays is for %s%s",
                self._alias,
                f" or its groups ({', '.join(self.groups)})" if self.groups else "",
            )

    @property
    def _alias(self) -> str:
        return self.host_alias or "default"

    def _found(self, base: Path, command: str) -> str:
        program = find_program(base, command)
        if program is None:
            raise ProvisionerFailed(
                f"{command} is no program of this host",
                resource=self.called,
                hint="Install Ansible on the host that builds.",
            )
        return program

    async def _environment(self, bench: Bench, socket: Path) -> dict[str, str]:
        assert isinstance(self.ansible_env_vars, dict)
        given = {
            name: value if isinstance(value, str) else keep_secret(await value.resolve(bench.base)).get_secret_value()
            for name, value in self.ansible_env_vars.items()
        }
        environment = {**ansible_environment(), **bench.variables}
        if self.roles_path is not None:
            environment["ANSIBLE_ROLES_PATH"] = str(bench.here(self.roles_path).absolute())
        if self.collections_path is not None:
            environment["ANSIBLE_COLLECTIONS_PATH"] = str(bench.here(self.collections_path).absolute())
        environment |= given
        add_connection(environment, socket)
        return environment

    @contextmanager
    def _inventories(self, bench: Bench, private: Path, logged_in: str) -> Iterator[list[Path]]:
        if self.user is not None and self.user != logged_in:
            bench.logger.warning("Commands run as %s, though ansible_user says %s", logged_in, self.user)
        user = self.user or logged_in
        text = f"{self._alias} ansible_connection=bakery ansible_user={user}\n"
        if self.inventory_file_template is not None:
            values = {"HostAlias": self._alias, "Host": "127.0.0.1", "User": user, "Port": "22"}
            text += _TEMPLATE.sub(lambda match: values[match[1]], self.inventory_file_template) + "\n"
        text += "".join(f"[{group}]\n{self._alias}\n" for group in self.groups)
        text += "".join(f"[{group}]\n" for group in self.empty_groups)
        directory = bench.here(self.inventory_directory) if self.inventory_directory is not None else private
        file = directory / f"image-bakery-{secrets.token_hex(4)}"
        with file_errors(self.called, file):
            file.write_text(text, encoding="utf-8")
        try:
            # The later one wins: it says how the host is reached.
            yield [*([bench.here(self.inventory_file)] if self.inventory_file is not None else []), file]
        finally:
            file.unlink(missing_ok=True)

    def _galaxy(self, base: Path) -> Iterator[list[str]]:
        """The commands that install what the requirements name: roles, then collections, as far as there are any."""
        if self.galaxy_file is None:
            return
        file = on_this_host(base, self.galaxy_file)
        paths = {"role": self.roles_path, "collection": self.collections_path}
        with file_errors(self.called, file):
            kinds = kinds_of_requirements(file)
        for kind in kinds:
            argv = [self._found(base, self.galaxy_command), kind, "install", "-r", str(file)]
            if (path := paths[kind]) is not None:
                argv += ["-p", str(on_this_host(base, path).absolute())]
            if self.galaxy_force_install:
                argv.append("--force")
            if self.galaxy_force_with_deps:
                argv.append("--force-with-deps")
            yield argv


_FIND_PYTHON = "command -v python3 || command -v python || ls /usr/libexec/platform-python 2>/dev/null || true"
