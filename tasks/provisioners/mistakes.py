"""Mistakes as Pydantic tells them, so that those it does not look for by itself are told together with its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from tasks.provisioners.facts import wrong_facts


def texts(data: Any, where: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text in options as they were given, and where it is."""
    if isinstance(data, str):
        yield where, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from texts(value, (*where, key))
    elif isinstance(data, list):
        for place, value in enumerate(data):
            yield from texts(value, (*where, place))


def replaced(data: Any, change: Callable[[str], str]) -> Any:
    """The same options with every text changed."""
    if isinstance(data, str):
        return change(data)
    if isinstance(data, dict):
        return {key: replaced(value, change) for key, value in data.items()}
    return [replaced(value, change) for value in data] if isinstance(data, list) else data


def wrong_templates(given: dict[str, Any]) -> Iterator[InitErrorDetails]:
    """Templates that ask for what no build knows."""
    for where, text in texts(given):
        for rule in wrong_facts(text):
            yield mistake_detail("template", rule, where)


def mistake_detail(kind: Any, rule: str, where: tuple[str | int, ...]) -> InitErrorDetails:
    """One mistake. What was given is not shown again."""
    return InitErrorDetails(type=PydanticCustomError(kind, "{rule}", {"rule": rule}), loc=where, input=None)


def details_of(model: type[BaseModel], given: dict[str, Any]) -> list[InitErrorDetails]:
    """All that Pydantic finds wrong with options."""
    try:
        model.model_validate(given)
    except ValidationError as error:
        return _details(error)
    return []


def _details(error: ValidationError) -> list[InitErrorDetails]:
    """An error's details, as a new error takes them."""
    return [
        InitErrorDetails(
            # A rule that is passed on as a value is not taken for a template with fields of its own.
            type=PydanticCustomError(detail["type"], "{rule}", {**detail.get("ctx", {}), "rule": detail["msg"]}),
            loc=detail["loc"],
            input=detail["input"],
        )
        for detail in error.errors(include_url=False)
    ]
