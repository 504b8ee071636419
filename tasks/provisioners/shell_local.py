"""`shell-local`: run scripts on the host that builds (Packer's `shell-local` provisioner)."""

from __future__ import annotations

import asyncio
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks.chroot.host_command import run_program_on_host
from tasks.output import Lines
from tasks.provisioners.common import Bench, check_exit_code, file_errors
from tasks.provisioners.local_environment import local_environment
from tasks.provisioners.script import ScriptOptions, fill, wrong_template

_SYSTEMS = ("darwin", "freebsd", "linux", "netbsd", "openbsd", "solaris", "windows")
_TEMPLATES = ("Script", "Command", "Vars")


class ShellLocal(ScriptOptions):
    """Run commands or scripts on the host that builds.

    They begin in the definition's directory, and with the environment of the process that builds, less what is secret
    in it: Prefect's and the cloud's credentials. What they need of those, `env` gives them by reference.
    """

    type: Literal["shell-local"] = Field(title="Type", json_schema_extra={"position": 0})
    command: str | None = Field(
        default=None,
        title="Command",
        description="One command: the old form of inline.",
        min_length=1,
        json_schema_extra={"position": 10},
    )
    execute_command: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None,
        title="Execute command",
        description="Program and arguments that run the script: {{.Script}} is its path, {{.Vars}} the environment as "
        "shell text, secrets left out: all variables are in its environment anyway. "
        "Default: /bin/sh, -c, {{.Vars}} {{.Script}}",
        min_length=1,
        json_schema_extra={"position": 11},
    )
    tempfile_extension: str = Field(
        default=".sh",
        title="Extension",
        description="How the name of the temporary file with the inline commands ends.",
        pattern=r"^[A-Za-z0-9._-]*$",
        json_schema_extra={"position": 12},
    )
    only_on: list[Literal[_SYSTEMS]] | None = Field(  # type: ignore[valid-type]
        default=None,
        title="Only on",
        description=f"Run only where the host that builds is one of these: {', '.join(_SYSTEMS)}.",
        min_length=1,
        json_schema_extra={"position": 13},
    )
    use_linux_pathing: bool = Field(
        default=False,
        title="Linux paths on Windows",
        description="Without effect: builds do not run on Windows.",
        json_schema_extra={"position": 14},
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for argument in self.execute_command or ():
            wrong_template("execute_command", argument, _TEMPLATES)
        if self.execute_command and not any(".Script" in word or ".Command" in word for word in self.execute_command):
            raise ValueError("execute_command must contain {{.Script}}, or the script would not run")
        return self

    def _ways(self) -> dict[str, object]:
        return {**super()._ways(), "command": self.command}

    async def provision(self, bench: Bench) -> None:
        """Run the scripts. Ended by a cancellation, they are killed with all that they started.

        Raises:
            ProvisionerFailed: one ended with an exit code that is not valid.
            CommunicatorError: it could not be started.
            SecretUnavailable: a reference in `env` leads nowhere.
        """
        if self.use_linux_pathing:
            bench.logger.warning("use_linux_pathing has no effect: this is not Windows")
        if self.only_on is not None and sys.platform not in self.only_on:
            bench.logger.info("Skipped: this host is %s, and not %s", sys.platform, ", ".join(self.only_on))
            return
        plain, secret = await self._variables(bench)
        environment = {**local_environment(), **plain, **secret}
        with ExitStack() as stack:
            scripts = list(self._paths(bench))
            if lines := self.inline or ([self.command] if self.command else None):
                directory = stack.enter_context(bench.scratch())
                scripts = [await asyncio.to_thread(self._written_to, directory, lines)]
            for script in scripts:
                with file_errors(self.called, script):
                    script.stat()
                await self._run(bench, self._argv(script.absolute(), plain), environment)

    def _written_to(self, directory: Path, lines: list[str]) -> Path:
        path = directory / f"script{self.tempfile_extension}"
        path.touch(mode=0o700)
        path.write_bytes(self._inline_script(lines))
        return path

    def _argv(self, script: Path, plain: dict[str, str]) -> list[str]:
        quoted = shlex.quote(str(script)) if self.execute_command is None else str(script)
        values = {"Script": quoted, "Command": quoted, "Vars": self._written(plain, "%s=%s ")}
        return [fill(word, values) for word in self.execute_command or ("/bin/sh", "-c", "{{.Vars}} {{.Script}}")]

    async def _run(self, bench: Bench, argv: list[str], environment: dict[str, str]) -> None:
        lines = Lines(bench.logger.info)
        try:
            code = await run_program_on_host(argv, lines.feed, directory=bench.base.absolute(), environment=environment)
        finally:
            lines.end()
        check_exit_code(self.called, code, self.valid_exit_codes, lines)
