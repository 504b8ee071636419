"""Variants of a definition: each combination of a matrix's values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from blocks.errors import Mistake
from flows.yaml_file import option_path

Value = str | int | float | bool
Chosen = Mapping[str, Value]

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USED = re.compile(r"\{\{\s*matrix\.([^\s}]*)\s*\}\}")


def mistakes_of_matrix(matrix: Any) -> Iterator[Mistake]:
    """What makes it no matrix: it maps names to lists of texts or numbers."""
    if not isinstance(matrix, dict) or not matrix:
        yield Mistake("matrix", "must map names to lists of values")
        return
    for key, values in matrix.items():
        place = f"matrix.{key}"
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            yield Mistake(place, "must be a name of letters, digits and underscores")
        elif not isinstance(values, list) or not values or not all(isinstance(value, Value) for value in values):
            yield Mistake(place, "must be a list of texts, numbers or booleans")
        elif len({suffix([value]) for value in values}) != len(values):
            yield Mistake(place, "has values that lead to the same name", ", ".join(map(str, values)))
        elif not all(suffix([value]) for value in values):
            yield Mistake(place, "has a value without letters and digits: nothing to name the variant by")


def combinations(matrix: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """All combinations of the values; one that chooses nothing where there is no matrix."""
    return [dict(zip(matrix, values, strict=True)) for values in product(*matrix.values())]


def suffix(values: Sequence[Value]) -> str:
    """What a variant's name ends in: its values, of lower-case letters, digits and hyphens."""
    words = (re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-") for value in values)
    return "-".join(word for word in words if word)


def filled(given: Any, chosen: Chosen) -> Any:
    """What was given, with `{{matrix.KEY}}` replaced in all texts. A text that is nothing else becomes the value."""
    match given:
        case dict():
            return {key: filled(value, chosen) for key, value in given.items()}
        case list():
            return [filled(value, chosen) for value in given]
        case str():
            whole = _USED.fullmatch(given.strip())
            if whole is not None and whole[1] in chosen:
                return chosen[whole[1]]
            return _USED.sub(lambda found: str(chosen.get(found[1], found[0])), given)
    return given


def used(given: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str, str]]:
    """The matrix keys that texts name, each with the option that does."""
    match given:
        case dict():
            for key, value in given.items():
                yield from used(value, (*path, key))
        case list():
            for place, value in enumerate(given):
                yield from used(value, (*path, place))
        case str():
            yield from ((found[1], option_path(path)) for found in _USED.finditer(given))
