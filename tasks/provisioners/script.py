"""What `shell` and `shell-local` share: which script, with which variables, and which end is a good one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from blocks.references import SecretReference
from tasks.masking import keep_secret
from tasks.provisioners.common import Bench, ProvisionerOptions

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_TEMPLATE = re.compile(r"\{\{-?\s*\.(\w+)\s*-?\}\}")

VariableName = Annotated[str, Field(pattern=f"^{_NAME}$")]


def _assignment(value: str) -> str:
    if not re.match(f"{_NAME}=", value):
        raise PydanticCustomError("assignment", "must be NAME=VALUE, the name of letters, digits and underscores")
    return value


def _format(value: str) -> str:
    if re.sub("%%|%s", "", value).count("%") or re.sub("%%", "", value).count("%s") != 2:
        raise PydanticCustomError("format", "must hold %s twice, for name and value, and no other % but %%")
    return value


class ScriptOptions(ProvisionerOptions):
    """The options of provisioners that run scripts."""

    inline: list[str] | None = Field(
        default=None,
        title="Commands",
        description="Lines of one script. Give this, a script, or scripts.",
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
    scripts: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None,
        title="Scripts",
        description="Paths of scripts on the host that builds, run in this order.",
        min_length=1,
        json_schema_extra={"position": 4},
    )
    env: dict[VariableName, str | SecretReference] = Field(
        default_factory=dict,
        title="Environment",
        description="Environment variables for the script: values, or references to secrets.",
        json_schema_extra={"position": 5},
    )
    environment_vars: list[Annotated[str, AfterValidator(_assignment)]] = Field(
        default_factory=list,
        title="Environment variables",
        description="The same as a list of NAME=VALUE. What env says counts for more.",
        json_schema_extra={"position": 20},
    )
    env_var_format: Annotated[str, AfterValidator(_format)] | None = Field(
        default=None,
        title="Format of a variable",
        description="How each variable is written: %s for its name, then %s for its value, whose single quotes are "
        "escaped. Default: %s='%s' and a blank, or export %s='%s' in a file of variables.",
        json_schema_extra={"position": 21},
    )
    inline_shebang: str = Field(
        default="/bin/sh -e",
        title="Shebang",
        description="Interpreter of inline commands; a first command that begins with #! takes its place.",
        min_length=1,
        json_schema_extra={"position": 22},
    )
    valid_exit_codes: list[int] = Field(
        default=[0],
        title="Valid exit codes",
        description="Exit codes that are no failure.",
        min_length=1,
        json_schema_extra={"position": 30},
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        ways = self._ways()
        if sum(value is not None for value in ways.values()) != 1:
            *rest, last = ways
            raise ValueError(f"needs exactly one of {', '.join(rest)} and {last}")
        return self

    def _ways(self) -> dict[str, object]:
        return {"inline": self.inline, "script": self.script, "scripts": self.scripts}

    def files_here(self) -> list[tuple[str, str]]:
        """The scripts."""
        if self.script is not None:
            return [("script", self.script)]
        return [(f"scripts[{place}]", path) for place, path in enumerate(self.scripts or ())]

    def _inline_script(self, lines: list[str]) -> bytes:
        whole = lines if lines[0].startswith("#!") else [f"#!{self.inline_shebang}", *lines]
        return ("\n".join(whole) + "\n").encode()

    def _paths(self, bench: Bench) -> Iterator[Path]:
        yield from (bench.here(path) for _, path in self.files_here())

    async def _variables(self, bench: Bench) -> tuple[dict[str, str], dict[str, str]]:
        """Variables for the script: those that anyone may see, and those that are secret."""
        plain = dict(bench.variables)
        for assignment in self.environment_vars:
            name, _, text = assignment.partition("=")
            plain[name] = text
        secret: dict[str, str] = {}
        for name, value in self.env.items():
            if isinstance(value, str):
                plain[name] = value
            else:
                plain.pop(name, None)
                secret[name] = keep_secret(await value.resolve(bench.base)).get_secret_value()
        return plain, secret

    def _written(self, variables: Mapping[str, str], default: str) -> str:
        """Variables as text for a shell."""
        if self.env_var_format is None:
            return "".join(default % (name, shlex.quote(value)) for name, value in variables.items())
        return "".join(self.env_var_format % (name, value.replace("'", "'\"'\"'")) for name, value in variables.items())


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values in place of `{{.Name}}`. What is put in is not looked at again."""
    return _TEMPLATE.sub(lambda match: values.get(match[1], match[0]), template)


def wrong_template(option: str, template: str, known: Collection[str], needed: str = "") -> None:
    """Refuse a template that asks for what there is not, or lacks what makes it work.

    Raises:
        ValueError: with the rule.
    """
    asked = _TEMPLATE.findall(template)
    unknown = sorted(set(asked) - set(known))
    if unknown:
        there_are = " and ".join(f"{{{{.{name}}}}}" for name in known)
        raise ValueError(f"{option} knows {there_are}, not {', '.join(unknown)}")
    if needed and needed not in asked:
        raise ValueError(f"{option} must contain {{{{.{needed}}}}}, or the script would not run")
