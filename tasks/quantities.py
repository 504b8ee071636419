"""Durations and sizes as people write them in a definition."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_DURATION_PATTERN = r"^(?=.)(\d+(\.\d+)?d)?(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?$"
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|TiB)?")
SECONDS = "Seconds"
BYTES = "Bytes"
"""What the choices are called of which a quantity can be told by its schema."""
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def seconds(given: Any) -> Any:
    """Seconds of what a person wrote; what is no text is left to be checked."""
    if isinstance(given, str):
        match = _DURATION.fullmatch(given.strip())
        if match is None or not any(match.groups()):
            raise PydanticCustomError("duration", "must be a duration such as 90s, 1h30m or 7d, or a number of seconds")
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return days * 86400 + hours * 3600 + minutes * 60 + seconds
    return given


def duration_text(seconds: float) -> str:
    """A duration as a person writes it: `90s` is `1m30s`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = (f"{hours}h" if hours else "", f"{minutes}m" if minutes else "", f"{rest:g}s" if rest else "")
    return "".join(parts) or "0s"


def size_text(size: int) -> str:
    """A size as a person writes it, in the largest unit that leaves it whole."""
    unit = max((unit for unit in _UNITS if size % _UNITS[unit] == 0), key=lambda unit: _UNITS[unit] if size else 0)
    return f"{size // _UNITS[unit]}{unit}"


def _bytes(given: Any) -> Any:
    if isinstance(given, str):
        match = _SIZE.fullmatch(given.strip())
        if match is None:
            raise PydanticCustomError("size", "must be a size such as 20GiB or 512MiB, or a number of bytes")
        return int(match[1]) * _UNITS[match[2] or "B"]
    return given


Seconds = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "title": "Time, such as 5m", "pattern": _DURATION_PATTERN},
                {"type": "number", "title": SECONDS, "minimum": 0},
            ]
        }
    ),
]
"""A duration: `90s`, `1h30m`, `30d`, or a number of seconds."""

Bytes = Annotated[
    int,
    BeforeValidator(_bytes),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "title": "Size, such as 20GiB", "pattern": r"^\d+ ?([KMGT]i)?B?$"},
                {"type": "integer", "title": BYTES, "minimum": 0},
            ]
        }
    ),
]
"""A size: `20GiB`, `512MiB`, or a number of bytes."""
