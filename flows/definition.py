"""Reading build definitions: from YAML, from a flow's parameters, with all mistakes at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from blocks.errors import DefinitionError, Mistake
from blocks.forms import plain_optionals
from tasks.cloud import Cloud
from tasks.naming import unknown_variables
from tasks.run import Run

ModelT = TypeVar("ModelT", bound="BuildDefinition[Any]")

Path_ = tuple[str | int, ...]


RunT = TypeVar("RunT", bound=Run)


def check_variables(value: str) -> str:
    """Refuse variables that do not exist."""
    if unknown := unknown_variables(value):
        raise PydanticCustomError(
            "variable",
            "has unknown variables: {unknown}; there are timestamp, isotime, build_name, source_name and run_id",
            {"unknown": ", ".join(unknown)},
        )
    return value


Text = Annotated[str, AfterValidator(check_variables)]
"""Text with variables in it."""


def at(position: int) -> JsonDict:
    """An option's place in the form."""
    return {"position": position}


class BuildDefinition(BaseModel, ABC, Generic[RunT]):
    """What the definitions of all builders share."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)
    builder: ClassVar[str]
    """The builder's name, as in Packer."""

    build_name: str = Field(
        default="image",
        title="Build name",
        description="What {{build_name}} stands for, and the build page's key.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=60,
        json_schema_extra={"position": 0},
    )

    definition_file: str | None = Field(
        default=None,
        title="Definition file",
        description="Where this definition was read from: relative paths resolve against its directory.",
        json_schema_extra={"position": 900},
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return plain_optionals(handler.resolve_ref_schema(handler(core)))

    @property
    def base(self) -> Path:
        """The directory against which relative paths resolve."""
        return Path(self.definition_file).parent if self.definition_file else Path()

    @abstractmethod
    def cloud(self) -> AbstractAsyncContextManager[Cloud[RunT]]:
        """Open the cloud that this definition builds on, with the credentials that it leads to.

        Raises:
            CredentialsError: there are none.
            SecretUnavailable: a reference leads nowhere.
        """

    def script_variables(self) -> dict[str, str]:
        """Environment variables that every script sees; the first two as with Packer."""
        return {
            "PACKER_BUILD_NAME": self.build_name,
            "PACKER_BUILDER_TYPE": self.builder,
            "BAKERY_BUILD_NAME": self.build_name,
        }

    def mistakes_here(self) -> list[Mistake]:
        """What only the host that builds can tell: files that are named and are not there."""
        return []

    def as_yaml(self) -> str:
        """The options that are set, as YAML. Secrets are references, so nothing secret is in it."""
        data = self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"definition_file"})
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def read_yaml(model: type[ModelT], path: Path, settings: Sequence[str] = ()) -> ModelT:
    """Read a definition from a YAML file.

    Args:
        model: Which builder's definition.
        path: The file.
        settings: Options that take the place of the file's, each as `OPTION=VALUE` with the value in YAML.

    Raises:
        DefinitionError: it is no YAML, or holds mistakes: each with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise DefinitionError([Mistake("file", f"must be readable: {why}")], source=str(path)) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise DefinitionError(
            [Mistake("file", f"must be YAML: {error.problem}", line=line)], source=str(path)
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # a control character; a date that is none
        raise DefinitionError(
            [Mistake("file", f"must be YAML: {str(error).splitlines()[0]}")], source=str(path)
        ) from None
    if not isinstance(data, dict):
        raise DefinitionError([Mistake("file", "must be a YAML mapping of options")], source=str(path))
    given = {**data, **_settings(settings), "definition_file": str(path.resolve())}
    return check(model, given, source=str(path), node=node)


def _settings(settings: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for setting in settings:
        option, equals, value = setting.partition("=")
        try:
            values[option.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals:
            raise DefinitionError([Mistake(option, "must be OPTION=VALUE, the value as YAML")], source="--set")
    return values


def check(
    model: type[ModelT],
    given: Any,
    *,
    source: str = "the flow's parameters",
    node: yaml.Node | None = None,
) -> ModelT:
    """Make a definition of what was given.

    Args:
        model: Which builder's definition.
        given: A definition, or its fields.
        source: What the error calls it.
        node: The YAML that it came from, for the lines of mistakes.

    Raises:
        DefinitionError: all mistakes, in the definition and in what it names on this host.
    """
    try:
        definition = given if isinstance(given, model) else model.model_validate(given)
    except ValidationError as error:
        mistakes = [_mistake(detail, given, node) for detail in error.errors(include_url=False)]
        raise DefinitionError(mistakes, source=source) from None
    if mistakes := definition.mistakes_here():
        raise DefinitionError([_with_line(mistake, node) for mistake in mistakes], source=source)
    return definition


def _mistake(detail: Any, definition: Any, node: yaml.Node | None) -> Mistake:
    where = _without_choices(detail["loc"], definition, missing=detail["type"] == "missing")
    rule = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if detail["type"] == "missing":
        rule = "is required"
    elif detail["type"] == "extra_forbidden":
        rule = "is no option of this builder"
    elif detail["type"] in ("union_tag_not_found", "union_tag_invalid"):
        rule = f"needs a type: one of {detail['ctx'].get('expected_tags', 'shell, file, reboot')}"
        where = (*where, "type")
    given = detail.get("input")
    # Only what is certainly no secret is shown again; a plain value where a reference belongs may be one.
    shown = where and detail["type"] not in ("secret_value", "block_value", "extra_forbidden", "missing")
    value = repr(given) if shown and isinstance(given, str | int | float | bool) else ""
    return Mistake(option_path(where) or "definition", rule, value[:100], _line(where, node))


def _without_choices(where: Path_, definition: Any, *, missing: bool) -> Path_:
    """The path without the names of chosen union members, which Pydantic puts in and which nobody wrote."""
    found: list[str | int] = []
    current = definition
    for place, part in enumerate(where):
        inside = isinstance(current, dict) and part in current
        if inside or (isinstance(current, list) and isinstance(part, int) and part < len(current)):
            current = current[part]
            found.append(part)
        elif missing and place == len(where) - 1:
            found.append(part)
    return tuple(found)


def _with_line(mistake: Mistake, node: yaml.Node | None) -> Mistake:
    parts: list[str | int] = []
    for part in mistake.option.replace("]", "").replace("[", ".").split("."):
        parts.append(int(part) if part.isdigit() else part)
    return Mistake(mistake.option, mistake.rule, mistake.value, _line(tuple(parts), node))


def option_path(parts: Sequence[str | int]) -> str:
    """The path of an option, such as `provisioners[1].inline`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


def _line(where: Path_, node: yaml.Node | None) -> int | None:
    """The line of an option, or of the nearest thing around it that is in the file."""
    if node is None:
        return None
    line = node.start_mark.line
    for part in where:
        inner = next((value for key, value in _children(node) if key == part), None)
        if inner is None:
            break
        node, line = inner
    return line + 1


def _children(node: yaml.Node) -> Iterator[tuple[str | int, tuple[yaml.Node, int]]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), (value, key.start_mark.line)
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            yield place, (value, value.start_mark.line)
