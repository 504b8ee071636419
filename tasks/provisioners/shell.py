"""`shell`: run scripts in the system that is being made (Packer's `shell` provisioner)."""

from __future__ import annotations

import asyncio
import posixpath
import re
import secrets
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from blocks.errors import ConnectionLost, ProvisionerFailed
from tasks.communicator import Communicator, persist, read
from tasks.output import Lines
from tasks.provisioners.common import Bench, check_exit_code, file_errors
from tasks.provisioners.script import ScriptOptions, fill, wrong_template
from tasks.quantities import Seconds

DISCONNECTED = 2_300_218
"""The exit code by which Packer's users say that a lost connection is no failure."""

_REMOVAL = 10
_PROBE = "bakery-can-this-be-executed"
_SHELL = re.compile(rb"#!\s*(/\S*/)?(env\s+(-\S+\s+)*)?(ba|da|k|z|a|mk)?sh\b")


@dataclass(frozen=True)
class _There:
    """Where the files of one run are, in the system that is being made."""

    script: str
    variables: str
    """The file of variables: 0600, and removed whatever happens."""
    entry: str
    """A script beside it that reads the variables and becomes the script."""


class Shell(ScriptOptions):
    """Run commands or scripts in the system that is being made."""

    type: Literal["shell"] = Field(title="Type", json_schema_extra={"position": 0})
    execute_command: str | None = Field(
        default=None,
        title="Execute command",
        description="How the script is run: {{.Path}} is its path there, {{.Vars}} the environment, secrets left out: "
        "those travel in a private file. Default: chmod +x {{.Path}}; {{.Vars}} {{.Path}}. With use_env_var_file: "
        "chmod +x {{.Path}}; . {{.EnvVarFile}} && {{.Path}}",
        min_length=1,
        json_schema_extra={"position": 10},
    )
    use_env_var_file: bool = Field(
        default=False,
        title="Variables in a file",
        description="Put all variables in a private file, {{.EnvVarFile}}, for the execute command to read.",
        json_schema_extra={"position": 11},
    )
    remote_folder: str = Field(
        default="/tmp",  # noqa: S108 (Packer's default, in the guest)
        title="Remote folder",
        description="Where the script is put while it runs.",
        min_length=1,
        json_schema_extra={"position": 12},
    )
    remote_file: str | None = Field(
        default=None,
        title="Remote file",
        description="The script's name there. Default: script_NUMBER.sh.",
        min_length=1,
        json_schema_extra={"position": 13},
    )
    remote_path: str | None = Field(
        default=None,
        title="Remote path",
        description="The script's whole path there. Default: remote folder and remote file.",
        min_length=1,
        json_schema_extra={"position": 14},
    )
    binary: bool = Field(
        default=False,
        title="Binary",
        description="Leave scripts as they are. Otherwise CRLF at the end of a line becomes LF.",
        json_schema_extra={"position": 15},
    )
    skip_clean: bool = Field(
        default=False,
        title="Leave the script there",
        description="Do not remove the script afterwards. A file of variables is removed all the same.",
        json_schema_extra={"position": 16},
    )
    expect_disconnect: bool = Field(
        default=False,
        title="Expect a disconnect",
        description="A connection that breaks while the script runs is no failure: it restarts the guest, say.",
        json_schema_extra={"position": 17},
    )
    start_retry_timeout: Seconds = Field(
        default=300,
        ge=0,
        title="Start retry time-out",
        description="How long to go on trying to reach a guest that is restarting, before and after the script.",
        json_schema_extra={"position": 18},
    )
    pause_after: Seconds = Field(
        default=0,
        ge=0,
        title="Pause after",
        description="Wait so long when the script has ended well: 10s, 1m, or seconds.",
        json_schema_extra={"position": 19},
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.remote_path is not None and self.remote_file is not None:
            raise ValueError("takes remote_path or remote_file, not both")
        if self.execute_command is not None:
            known = ("Path", "Vars", "EnvVarFile") if self.use_env_var_file else ("Path", "Vars")
            wrong_template("execute_command", self.execute_command, known, "Path")
            if self.use_env_var_file and "EnvVarFile" not in self.execute_command:
                raise ValueError("execute_command must contain {{.EnvVarFile}} with use_env_var_file")
        return self

    async def provision(self, bench: Bench) -> None:
        """Run the scripts.

        Raises:
            ProvisionerFailed: one ended with an exit code that is not valid, or it could not be removed.
            ConnectionLost: the connection broke, and that was not expected.
            SecretUnavailable: a reference in `env` leads nowhere.
        """
        plain, secret = await self._variables(bench)
        for contents in self._contents(bench):
            await self._run(bench, contents, plain, secret)
        if self.pause_after:
            bench.logger.info("Waiting %g s", self.pause_after)
            await asyncio.sleep(self.pause_after)

    def _contents(self, bench: Bench) -> Iterator[bytes]:
        if self.inline is not None:
            yield self._as_lines(self._inline_script(self.inline))
        for path in self._paths(bench):
            if self.scripts is not None:
                bench.logger.info("Running %s", path.name)
            with file_errors(self.called, path):
                contents = path.read_bytes()
            yield self._as_lines(contents)

    def _as_lines(self, contents: bytes) -> bytes:
        return contents if self.binary else contents.replace(b"\r\n", b"\n")

    def _there(self) -> _There:
        folder = self.remote_folder.rstrip("/")
        number = secrets.randbelow(10**8)
        script = self.remote_path or f"{folder}/{self.remote_file or f'script_{number}.sh'}"
        return _There(
            script, f"{folder}/varfile_{number}.sh", posixpath.join(posixpath.dirname(script), f"entry_{number}.sh")
        )

    async def _run(self, bench: Bench, contents: bytes, plain: dict[str, str], secret: dict[str, str]) -> None:
        there = self._there()
        command, files = self._plan(there, contents, plain, secret)
        temporary = [path for path in files if path != there.script or not self.skip_clean]

        async def upload() -> None:
            for path, (data, mode) in files.items():
                await bench.communicator.upload(data, path, mode)

        try:
            await persist(bench.communicator, upload, self.start_retry_timeout)
            went = await self._execute(bench, command)
        except BaseException:
            await _remove_quietly(bench.communicator, temporary)
            raise
        if temporary:
            patience = self.start_retry_timeout if went else 0
            await persist(bench.communicator, lambda: self._remove(bench.communicator, temporary), patience)

    def _plan(
        self, there: _There, contents: bytes, plain: dict[str, str], secret: dict[str, str]
    ) -> tuple[str, dict[str, tuple[bytes, int]]]:
        """The command that runs a script, and the files, with their modes, that have to be there for it.

        A secret is on no command line. It goes in a file that only its owner may read, which is gone before the script
        begins.
        """
        files = {there.script: (contents, 0o755)}
        path, prelude = there.script, ""
        if self.use_env_var_file:
            files[there.variables] = (self._written({**plain, **secret}, "export %s=%s\n").encode(), 0o600)
        elif secret:
            exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in secret.items())
            files[there.variables] = (exports.encode(), 0o600)
            if _is_shell(contents):
                # Read by the script's own process, which may be another user's (sudo).
                files[there.entry] = (_entry(there, contents), 0o755)
                path = there.entry
            else:
                prelude = f". {shlex.quote(there.variables)} && rm -f {shlex.quote(there.variables)}; "
        run = ". {{.EnvVarFile}} && {{.Path}}" if self.use_env_var_file else "{{.Vars}} {{.Path}}"
        # In a command of their own, paths have the quotes that users give them.
        quoted = str if self.execute_command else shlex.quote
        values = {
            "Path": quoted(path),
            "EnvVarFile": quoted(there.variables),
            "Vars": self._written(plain, "%s=%s "),
        }
        return prelude + fill(self.execute_command or f"chmod +x {{{{.Path}}}}; {run}", values), files

    async def _execute(self, bench: Bench, command: str) -> bool:
        """Run the command. Returns whether the connection broke, and might."""
        lines = Lines(bench.logger.info)
        try:
            code = await bench.communicator.run(command, lines.feed)
        except ConnectionLost as lost:
            if not self.expect_disconnect and DISCONNECTED not in self.valid_exit_codes:
                raise
            bench.logger.info("The connection broke, as it may: %s", lost.why or lost.what)
            return True
        finally:
            lines.end()
        check_exit_code(self.called, code, self.valid_exit_codes, lines)
        return False

    async def _remove(self, communicator: Communicator, paths: Sequence[str]) -> None:
        code, said = await read(communicator, _removal(paths))
        if code != 0:
            raise ProvisionerFailed(
                "the script ended well, and cannot be removed",
                resource=self.called,
                why=said or f"exit code {code}",
                hint="It would be in the image. Let the script leave itself alone, or set skip_clean.",
            )


def _is_shell(contents: bytes) -> bool:
    """Whether a shell can read it: by its shebang, or because it has none and is no binary."""
    return _SHELL.match(contents) is not None if contents.startswith(b"#!") else b"\0" not in contents


def _entry(there: _There, contents: bytes) -> bytes:
    variables, script, entry = map(shlex.quote, (there.variables, there.script, there.entry))
    begin, become = "", ""
    if contents.startswith(b"#!"):
        # Without a shebang, or where nothing may be executed (noexec), the shell that reads this reads the script, too.
        # Whether something may is tried out on this very file: for root, `test -x` does not always know.
        begin = f'[ "${{1-}}" != {_PROBE} ] || exit 0\n'
        become = f'if {entry} {_PROBE} 2>/dev/null; then exec {script} "$@"; fi\n'
    return f"#!/bin/sh\n{begin}. {variables}\nrm -f {variables}\n{become}. {script}\n".encode()


def _removal(paths: Sequence[str]) -> str:
    return "rm -f " + " ".join(map(shlex.quote, paths))


async def _remove_quietly(communicator: Communicator, paths: Sequence[str]) -> None:
    # The script's own end is what counts; the guest goes away with what could not be removed.
    if paths:
        with suppress(Exception):
            async with asyncio.timeout(_REMOVAL):  # a guest that fell silent must not hold up a cancellation
                await read(communicator, _removal(paths))
