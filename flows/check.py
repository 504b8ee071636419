"""Making a definition of what was given, in a file or as a flow's parameters, with all mistakes at once."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from blocks.errors import DefinitionError, Mistake
from flows.definition import BuildDefinition
from flows.forms import without_sections
from flows.like_options import like_option
from flows.yaml_file import OptionPath, line_of, option_path, option_root, with_line

ModelT = TypeVar("ModelT", bound=BuildDefinition[Any])


def check(
    model: type[ModelT],
    given: Any,
    *,
    source: str = "the flow's parameters",
    node: yaml.Node | None = None,
    has_parent: bool = False,
    builds_here: bool = True,
) -> ModelT:
    """Make a definition of what was given.

    Args:
        model: Which builder's definition.
        given: A definition, or its fields; without a node also in the sections of the form.
        source: What the error calls it.
        node: The YAML that it came from, for the lines of mistakes.
        has_parent: It starts from another definition's image, which is not known yet: no source option is asked for.
        builds_here: Whether this host has to have what it names: programs, keys, files that do not lie beside it.

    Raises:
        DefinitionError: all mistakes, in the definition and in what it names on this host.
    """
    if node is None:
        given = without_sections(model.sections, given)
    try:
        definition = given if isinstance(given, model) else model.model_validate(given)
    except ValidationError as error:
        mistakes = mistakes_of(error, model, given, node, elsewhere=model.elsewhere)
        mistakes += [
            with_line(mistake, node) for mistake in _mistakes_beside(model, given, error, has_parent, builds_here)
        ]
        raise DefinitionError(mistakes, source=source) from None
    if mistakes := _mistakes_of_whole(definition, has_parent, builds_here):
        raise DefinitionError([with_line(mistake, node) for mistake in mistakes], source=source)
    return definition


def _mistakes_of_whole(definition: BuildDefinition[Any], has_parent: bool, builds_here: bool) -> list[Mistake]:
    found = [*(() if has_parent else definition.mistakes_of_source()), *definition.mistakes_here()]
    return [mistake for mistake in found if builds_here or not mistake.of_host]


def _mistakes_beside(
    model: type[BuildDefinition[Any]], given: Any, error: ValidationError, has_parent: bool, builds_here: bool
) -> list[Mistake]:
    """What else is wrong: with the options that could be read, as far as that can be told without the others."""
    wrong = {str(detail["loc"][0]) for detail in error.errors(include_url=False) if detail["loc"]}
    try:
        definition = model.model_validate({option: given[option] for option in given if option not in wrong})
    except (ValidationError, TypeError):
        return []
    found = _mistakes_of_whole(definition, has_parent, builds_here)
    return [mistake for mistake in found if option_root(mistake.option) not in wrong]


def mistakes_of(
    error: ValidationError,
    model: type[BaseModel],
    given: Any,
    node: yaml.Node | None,
    *,
    elsewhere: Mapping[str, str] = MappingProxyType({}),
    below: OptionPath = (),
) -> list[Mistake]:
    """The mistakes that a model found.

    Args:
        error: What it said.
        model: Which one.
        given: What it was given.
        node: The YAML that this came from.
        elsewhere: Options that people write and the model has not, and what to tell them.
        below: Where in the YAML it stood.
    """
    return [_mistake(detail, model, given, node, elsewhere, below) for detail in error.errors(include_url=False)]


def _mistake(
    detail: Any,
    model: type[BaseModel],
    definition: Any,
    node: yaml.Node | None,
    elsewhere: Mapping[str, str],
    below: OptionPath,
) -> Mistake:
    where = _without_choices(detail["loc"], definition, missing=detail["type"] == "missing")
    rule = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if detail["type"] == "missing":
        rule = "is required"
    elif detail["type"] == "extra_forbidden":
        meant = like_option(model, detail["loc"])
        rule = f"is no option of {option_path(below) or 'this builder'}" + (f": did you mean {meant}?" if meant else "")
        rule = elsewhere.get(option_path(where), rule)
    elif detail["type"] in ("union_tag_not_found", "union_tag_invalid"):
        rule = f"needs a type: one of {detail['ctx'].get('expected_tags', 'shell, file, …')}"
        where = (*where, "type")
    given = detail.get("input")
    # Only what is certainly no secret is shown again; a plain value where a reference belongs may be one.
    shown = where and detail["type"] not in ("secret_value", "block_value", "extra_forbidden", "missing")
    value = repr(given) if shown and isinstance(given, str | int | float | bool) else ""
    where = (*below, *where)
    return Mistake(option_path(where) or "definition", rule, value[:100], line_of(where, node))


def _without_choices(where: OptionPath, definition: Any, *, missing: bool) -> OptionPath:
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
