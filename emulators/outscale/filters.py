"""`Filters` of the calls that list something: every filter must match, with any one of its values."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from emulators.outscale import errors

R = TypeVar("R")
Value = str | int | bool | datetime | None
Getter = Callable[[Any], Value | Iterable[Value]]
Test = Callable[[Any], bool]
Kind = Literal["text", "glob", "number", "flag", "moment", "since", "until"]


@dataclass(frozen=True)
class Filter:
    """What a filter looks at, and what a client may ask for: a list of texts, numbers or moments, or one value."""

    kind: Kind
    get: Getter


Table = dict[str, Filter]


def text(get: Getter) -> Filter:
    """A list of texts."""
    return Filter("text", get)


def glob(get: Getter) -> Filter:
    """A list of texts in which `*` stands for any characters and `?` for one."""
    return Filter("glob", get)


def number(get: Getter) -> Filter:
    """A list of numbers."""
    return Filter("number", get)


def flag(get: Getter) -> Filter:
    """True or false."""
    return Filter("flag", get)


def moment(get: Getter) -> Filter:
    """A list of times, or of days, in ISO 8601."""
    return Filter("moment", get)


def always(value: Value | Iterable[Value]) -> Getter:
    """For what is the same with all resources, or what none of them has: `()`."""
    return lambda _: value


def apply(records: Iterable[R], table: Table, asked: dict[str, Any]) -> Iterator[R]:
    """The records that match, one by one.

    Raises:
        ApiError: a filter that the call does not have, or values of the wrong type.
    """
    tests = [_test(table, name, wanted) for name, wanted in asked.items()]
    return (record for record in records if all(test(record) for test in tests))


def named(asked: dict[str, Any], name: str) -> list[str] | None:
    """The values of a filter by which resources can be looked up; None when it is not given."""
    wanted = asked.get(name)
    return None if wanted is None else _texts(name, wanted)


def _test(table: Table, name: str, wanted: Any) -> Test:
    found = table.get(name)
    if found is None:
        raise errors.invalid_parameter(f"Filters.{name}")
    get = found.get
    match found.kind:
        case "text":
            texts = frozenset(_texts(name, wanted))
            return lambda record: any(value in texts for value in _values(get(record)))
        case "glob":
            globs = [_pattern(item) for item in _texts(name, wanted)]
            return lambda record: any(one.match(str(value)) for value in _values(get(record)) for one in globs)
        case "number":
            numbers = frozenset(_list(name, wanted, int))
            return lambda record: any(value in numbers for value in _values(get(record)))
        case "flag":
            if not isinstance(wanted, bool):
                raise errors.invalid_value(errors.INVALID_TYPE, f"Filters.{name} is true or false")
            return lambda record: any(value is wanted for value in _values(get(record)))
        case "moment":
            spans = [_span(name, item) for item in _texts(name, wanted)]
            return lambda record: any(
                _shown(value).startswith(span) for value in _values(get(record)) for span in spans
            )
        case "since":
            since = _when(name, wanted)
            return lambda record: any(_shown(value) >= since for value in _values(get(record)))
        case "until":
            until = _when(name, wanted)
            return lambda record: any(_shown(value) <= until for value in _values(get(record)))


def _texts(name: str, wanted: Any) -> list[str]:
    return _list(name, wanted, str)


T = TypeVar("T")


def _list(name: str, wanted: Any, kind: type[T]) -> list[T]:
    # True and false are numbers to Python.
    if not isinstance(wanted, list) or not all(type(item) is kind for item in wanted):
        what = "texts" if kind is str else "numbers"
        raise errors.invalid_value(errors.INVALID_TYPE, f"Filters.{name} is a list of {what}")
    return wanted


def _pattern(wanted: str) -> re.Pattern[str]:
    # A bracket means nothing here. The patterns of fnmatch never try the same way twice, however many stars there are.
    return re.compile(fnmatch.translate(wanted.replace("[", "[[]")))


def _values(got: Value | Iterable[Value]) -> Iterable[Value]:
    return [got] if isinstance(got, str | int | datetime) or got is None else got


def _shown(value: Value) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    return str(value).replace("Z", "+00:00")


def _when(name: str, wanted: Any) -> str:
    if not isinstance(wanted, str):
        raise errors.invalid_value(errors.INVALID_TYPE, f"Filters.{name} is a date")
    try:
        found = datetime.fromisoformat(wanted)
        return _shown(found if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise errors.invalid_value(errors.INVALID_VALUE, f"Filters.{name}: {wanted!r} is no date") from None


def _span(name: str, wanted: str) -> str:
    # A day alone stands for all of it.
    return _when(name, wanted)[: 10 if re.fullmatch(r"\d{4}-\d{2}-\d{2}", wanted) else None]
