"""`shell`: run scripts in the system that is being made (Packer's `shell` provisioner)."""

from __future__ import annotations

import asyncio
import re
import secrets
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from blocks.errors import Mistake, ProvisionerFailed
from blocks.references import SecretReference
from tasks.communicator import Communicator, read
from tasks.masking import keep_secret
from tasks.output import Lines
from tasks.provisioners.common import Bench, ProvisionerOptions, must_exist

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

_REMOVAL = 10

_TEMPLATE = re.compile(r"\{\{\s*\.?(\w+)\s*\}\}")


class Shell(ProvisionerOptions):
    """Run commands or a script in the system that is being made."""

    type: Literal["shell"] = Field(title="Type", json_schema_extra={"position": 0})
    inline: list[str] | None = Field(
        default=None,
        title="Commands",
        description="Lines of one script. Give either this or a script.",
        min_length=1,
        json_schema_extra={"position": 2},
    )
    script: str | None = Field(
        default=None,
        title="Script",
        description="Path of a script on the host that builds; relative to the definition's file.",
        min_length=1,
        json_schema_extra={"position": 3},
    )
    env: dict[VariableName, str | SecretReference] = Field(
        default_factory=dict,
        title="Environment",
        description="Environment variables for the script: values, or references to secrets.",
        json_schema_extra={"position": 4},
    )
    inline_shebang: str = Field(
        default="/bin/sh -e",
        title="Shebang",
        description="Interpreter of inline commands; a first command that begins with #! takes its place.",
        json_schema_extra={"position": 5},
    )
    execute_command: str = Field(
        default="chmod +x {{.Path}}; {{.Vars}} {{.Path}}",
        title="Execute command",
        description="How the script is run: {{.Path}} is its path there, {{.Vars}} the environment (no secrets).",
        json_schema_extra={"position": 6},
    )
    remote_folder: str = Field(
        default="/tmp",  # noqa: S108 (Packer's default, in the guest)
        title="Remote folder",
        description="Where the script is put while it runs.",
        json_schema_extra={"position": 7},
    )
    valid_exit_codes: list[int] = Field(
        default=[0],
        title="Valid exit codes",
        description="Exit codes that are no failure.",
        min_length=1,
        json_schema_extra={"position": 8},
    )

    @model_validator(mode="after")
    def _check(self) -> Shell:
        if (self.inline is None) == (self.script is None):
            raise ValueError("needs exactly one of inline and script")
        unknown = set(_TEMPLATE.findall(self.execute_command)) - {"Path", "Vars"}
        if unknown:
            raise ValueError(f"execute_command knows {{{{.Path}}}} and {{{{.Vars}}}}, not {', '.join(sorted(unknown))}")
        if "Path" not in _TEMPLATE.findall(self.execute_command):
            raise ValueError("execute_command must contain {{.Path}}, or the script would not run")
        return self

    def missing_here(self, base: Path, option: str) -> list[Mistake]:
        """The script, when it is not there."""
        return must_exist(base, self.script, f"{option}.script") if self.script else []

    async def provision(self, bench: Bench) -> None:
        """Run the script.

        Raises:
            ProvisionerFailed: it ended with an exit code that is not valid.
            SecretUnavailable: a reference in `env` leads nowhere.
        """
        there = bench.communicator
        number = secrets.randbelow(10**8)
        script = f"{self.remote_folder.rstrip('/')}/script_{number}.sh"
        hidden = f"{self.remote_folder.rstrip('/')}/varfile_{number}.sh"
        entry = f"{self.remote_folder.rstrip('/')}/entry_{number}.sh"
        plain = dict(bench.variables)
        secret: dict[str, str] = {}
        for name, value in self.env.items():
            if isinstance(value, str):
                plain[name] = value
            else:
                secret[name] = keep_secret(await value.resolve(bench.base)).get_secret_value()
        try:
            await there.upload(self._contents(bench), script, 0o755)
            path = script
            if secret:
                # Secrets go in a file that the script's wrapper reads and removes, never on a command line.
                exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in secret.items())
                await there.upload(exports.encode(), hidden, 0o600)
                await there.upload(_wrapper(hidden, script), entry, 0o755)
                path = entry
            await self._execute(there, bench, path, plain)
        finally:
            await _remove(there, script, *((hidden, entry) if secret else ()))

    def _contents(self, bench: Bench) -> bytes:
        if self.inline is not None:
            lines = self.inline if self.inline[0].startswith("#!") else [f"#!{self.inline_shebang}", *self.inline]
            return ("\n".join(lines) + "\n").replace("\r\n", "\n").encode()
        return bench.here(str(self.script)).read_bytes().replace(b"\r\n", b"\n")

    async def _execute(self, there: Communicator, bench: Bench, path: str, plain: dict[str, str]) -> None:
        values = {
            "Path": path,
            "Vars": " ".join(f"{name}={shlex.quote(value)}" for name, value in plain.items()),
        }
        command = _TEMPLATE.sub(lambda match: values[match[1]], self.execute_command)
        lines = Lines(bench.logger.info)
        try:
            code = await there.run(command, lines.feed)
        finally:
            lines.end()
        if code not in self.valid_exit_codes:
            tail = "".join(f"\n      {line}" for line in lines.tail)
            raise ProvisionerFailed(
                f"the script ended with exit code {code}" if code >= 0 else "the script was ended by a signal",
                resource=f"provisioner {self.name or self.type}",
                why=f"its last lines were:{tail}" if tail else "it said nothing",
                hint="Mend the script, or list the code in valid_exit_codes.",
            )


def _wrapper(hidden: str, script: str) -> bytes:
    return (
        f'#!/bin/sh\n. {shlex.quote(hidden)}\nrm -f {shlex.quote(hidden)}\nexec {shlex.quote(script)} "$@"\n'
    ).encode()


async def _remove(there: Communicator, *paths: str) -> None:
    # The script's own end is what counts; the guest goes away with what could not be removed.
    with suppress(Exception):
        async with asyncio.timeout(_REMOVAL):  # a guest that fell silent must not hold up a cancellation
            await read(there, "rm -f " + " ".join(map(shlex.quote, paths)))
