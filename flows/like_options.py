"""Which option was meant by one that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from flows.yaml_file import OptionPath


def like_option(model: type[BaseModel], where: OptionPath) -> str:
    """The option with the most similar name, or nothing if none is similar.

    Args:
        model: What the option was given to.
        where: Its path as Pydantic tells it, with the names of chosen union members.
    """
    around = [model]
    for part in where[:-1]:
        inner = [
            found
            for each in around
            if part in each.model_fields
            for found in _models_in(each.model_fields[str(part)].annotation)
        ]
        around = inner or [each for each in around if _is_choice(each, part)] or around
    options = {name for each in around for name in each.model_fields}
    return next(iter(difflib.get_close_matches(str(where[-1]), options, n=1, cutoff=0.75)), "")


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _is_choice(model: type[BaseModel], tag: object) -> bool:
    kind = model.model_fields.get("type")
    return kind is not None and tag in get_args(kind.annotation)
