"""What all provisioners share: their common options, and what they are given to work with."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails

from blocks.errors import Mistake, ProvisionerFailed
from blocks.forms import plain_optionals
from tasks.communicator import Communicator
from tasks.output import Lines
from tasks.provisioners.facts import BuildFacts, has_facts, without_wrong_facts
from tasks.provisioners.mistakes import details_of, mistake_detail, replaced, texts, wrong_templates
from tasks.quantities import Seconds
from tasks.run import Logger
from tasks.scratch import scratch

_SHOWN = ("title", "description", "type", "position", "default")
_NOT_OVERRIDDEN = ("type", "name", "only", "except", "override")
_NOT_WHAT_IS_DONE = frozenset(
    {"name", "only", "except_", "override", "pause_before", "timeout", "max_retries", "continue_on_error"}
)


@dataclass(frozen=True)
class Bench:
    """What a provisioner works with."""

    communicator: Communicator
    logger: Logger
    base: Path
    """The definition's directory: relative paths on this host resolve against it."""
    variables: Mapping[str, str]
    """Environment variables that every script sees."""
    facts: BuildFacts = field(default_factory=BuildFacts)
    """What is known about the build."""
    wait_for_person: Callable[[str], Awaitable[None]] | None = None
    """Waits until a person, who is told why, lets the build go on."""

    def here(self, path: str) -> Path:
        """A path of this host, as the definition means it."""
        return on_this_host(self.base, path)

    def scratch(self, place: Path | None = None) -> AbstractContextManager[Path]:
        """A private directory of this host, for as long as the block: see `tasks.scratch`."""
        run = UUID(self.facts.run_id) if self.facts.run_id else None
        return scratch(run, self.facts.attempt, place)


def on_this_host(base: Path, path: str) -> Path:
    """A path on the host that builds: `~` is the user's home, relative paths are the definition's."""
    return base / Path(path).expanduser()


class ProvisionerOptions(BaseModel):
    """The options of every provisioner."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)

    name: str | None = Field(
        default=None,
        title="Name",
        description="How the log and the build page call this provisioner.",
        json_schema_extra={"position": 1},
    )
    only: list[str] | None = Field(
        default=None,
        title="Only",
        description="Run in these builds alone: build names, builder types, or TYPE.NAME.",
        min_length=1,
        json_schema_extra={"position": 80},
    )
    except_: list[str] | None = Field(
        default=None,
        alias="except",
        title="Except",
        description="Do not run in these builds: build names, builder types, or TYPE.NAME.",
        min_length=1,
        json_schema_extra={"position": 81},
    )
    override: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        title="Override",
        description="Other values of these options in some builds: by build name, builder type, or TYPE.NAME.",
        json_schema_extra={"position": 82},
    )
    pause_before: Seconds = Field(
        default=0,
        ge=0,
        title="Pause before",
        description="Wait so long before it begins: 10s, 1m, or seconds.",
        json_schema_extra={"position": 83},
    )
    timeout: Seconds | None = Field(
        default=None,
        gt=0,
        title="Time-out",
        description="How long one try may take, the pause before it not counted. What hangs is killed, there too.",
        json_schema_extra={"position": 84},
    )
    max_retries: int = Field(
        default=0,
        ge=0,
        le=100,
        title="Retries",
        description="How often it is tried again when it fails, after pauses that grow.",
        json_schema_extra={"position": 85},
    )
    continue_on_error: bool = Field(
        default=False,
        title="Continue on error",
        description="Go on with the next provisioner when this one has failed.",
        json_schema_extra={"position": 86},
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = plain_optionals(handler.resolve_ref_schema(handler(core)))
        options = schema.get("properties", {})
        # So that Prefect refuses a wrong override before a run is stored, as it does with everything else.
        options["override"]["additionalProperties"] = {
            "type": "object",
            "properties": {name: option for name, option in options.items() if name not in _NOT_OVERRIDDEN},
            "additionalProperties": False,
        }
        # What secrets may stand in is looked into by the type that is meant alone. Were it by several, the server could
        # not tell which of their errors is meant, and would show the whole provisioner instead, secrets included.
        strict = {name: options[name] for name in ("env", "override") if name in options}
        for name, option in strict.items():
            options[name] = {key: value for key, value in option.items() if key in _SHOWN}
        schema["if"] = {"properties": {"type": options["type"]}, "required": ["type"]}
        schema["then"] = {"properties": strict}
        return schema

    @model_validator(mode="wrap")
    @classmethod
    def _all_mistakes(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # Mistakes in overrides and templates are told together with the others, not only once those are mended.
        if not isinstance(given, dict) or not (wrong := [*wrong_templates(given), *cls._wrong_overrides(given)]):
            return handler(given)
        rest = replaced(given, without_wrong_facts)
        if _overrides(given):
            del rest["override"]
        raise ValidationError.from_exception_data(cls.__name__, [*details_of(cls, rest), *wrong], hide_input=True)

    @model_validator(mode="after")
    def _check_builds(self) -> Self:
        if self.only is not None and self.except_ is not None:
            raise ValueError("takes only or except, not both")
        return self

    @classmethod
    def _wrong_overrides(cls, given: dict[str, Any]) -> Iterator[InitErrorDetails]:
        overrides = _overrides(given)
        if not overrides:
            return
        base = {option: replaced(value, without_wrong_facts) for option, value in given.items()}
        del base["override"]
        base_is_right = not details_of(cls, base)
        for build, options in overrides.items():
            wrong = [option for option in options if option in _NOT_OVERRIDDEN]
            yield from (
                mistake_detail("not_overridden", "cannot be overridden", ("override", build, option))
                for option in wrong
            )
            right = {option: value for option, value in options.items() if option not in wrong}
            for detail in details_of(cls, {**base, **replaced(right, without_wrong_facts)}):
                where = detail["loc"] or ()
                # What is wrong with the base is told once, there.
                if where[0] in options if where else base_is_right:
                    yield InitErrorDetails(**{**detail, "loc": ("override", build, *where)})

    def for_build(self, names: Sequence[str]) -> Self | None:
        """This provisioner as a build has it, overrides in place; None if that build does without it.

        Args:
            names: What the build is called, the most particular last: `BuildFacts.names`.
        """
        if self.only is not None and not set(self.only) & set(names):
            return None
        if self.except_ is not None and set(self.except_) & set(names):
            return None
        options: dict[str, Any] = {}
        for name in names:
            options |= self.override.get(name, {})
        return self._with(options) if options else self

    def rendered(self, facts: BuildFacts) -> Self:
        """This provisioner with the facts that its options ask for in place.

        Raises:
            ProvisionerFailed: this kind of build does not know one of them.
        """
        data = self.model_dump(by_alias=True, exclude_unset=True)
        if not any(has_facts(text) for _, text in texts(data)):
            return self
        return type(self).model_validate(replaced(data, facts.rendered))

    def _with(self, options: Mapping[str, Any]) -> Self:
        data = self.model_dump(by_alias=True, exclude_unset=True, exclude={"override"})
        return type(self).model_validate({**data, **options})

    @property
    def deadline(self) -> float | None:
        """Seconds after which one try is ended from outside."""
        return self.timeout

    async def provision(self, bench: Bench) -> None:
        """Do it."""
        raise NotImplementedError

    def files_here(self) -> list[tuple[str, str]]:
        """The files of this host that it takes: which option names it, and the path as it stands there."""
        return []

    def missing_here(self, base: Path, option: str) -> list[Mistake]:
        """What the definition names and this host does not have. `option` is this provisioner's path in it."""
        found = [
            mistake for named, path in self.files_here() for mistake in must_exist(base, path, f"{option}.{named}")
        ]
        for build, options in self.override.items():
            for mistake in self._with(options).missing_here(base, ""):
                named = mistake.option.removeprefix(".")
                if named.partition("[")[0] in options:
                    place = f"{option}.override.{build}.{named}"
                    found.append(replace(mistake, option=place))
        return found

    def what_is_done(self) -> dict[str, Any]:
        """The options that say what is done, without those that say when, how often and for how long."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=set(_NOT_WHAT_IS_DONE))

    @property
    def called(self) -> str:
        """How errors call it."""
        return f"provisioner {self.name or getattr(self, 'type', '')}"


def must_exist(base: Path, path: str, option: str) -> list[Mistake]:
    """A mistake when there is nothing at a path of this host, or nothing that this process may read."""
    found = on_this_host(base, path)
    of_host = Path(path).expanduser().is_absolute()
    if not found.exists():
        return [Mistake(option, f"must exist on the host that builds ({found})", path, of_host=of_host)]
    if not os.access(found, os.R_OK):
        return [Mistake(option, f"must be readable on the host that builds ({found})", path, of_host=of_host)]
    return []


@contextmanager
def file_errors(called: str, path: Path) -> Iterator[None]:
    """Around reading or writing files of this host: what goes wrong is the provisioner's failure.

    Raises:
        ProvisionerFailed: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ProvisionerFailed(
            "a file on the host that builds cannot be read or written",
            resource=called,
            why=f"{error.filename or path}: {error.strerror or error}",
            hint="It must be there when this provisioner begins, and the user that builds must have the right to it.",
        ) from error


def last_lines(lines: Collection[str]) -> str:
    """What an error says about the output before it."""
    return "its last lines were:" + "".join(f"\n      {line}" for line in lines) if lines else "it said nothing"


def check_exit_code(called: str, code: int, valid: Sequence[int], lines: Lines) -> None:
    """See that a script ended as it should.

    Raises:
        ProvisionerFailed: its exit code is not valid. The error shows its last lines.
    """
    if code not in valid:
        raise ProvisionerFailed(
            f"the script ended with exit code {code}" if code >= 0 else "the script was ended by a signal",
            resource=called,
            why=last_lines(lines.tail),
            hint="Mend the script, or list the code in valid_exit_codes.",
        )


def _overrides(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The overrides, if they are maps of maps; the field's own type says so where they are not."""
    overrides = given.get("override")
    right = isinstance(overrides, dict) and all(isinstance(options, dict) for options in overrides.values())
    return overrides if right else {}  # type: ignore[return-value]
