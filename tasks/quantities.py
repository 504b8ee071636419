"""Durations and sizes as people write them in a definition."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|TiB)?")
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def _seconds(given: Any) -> Any:
    if isinstance(given, str):
        match = _DURATION.fullmatch(given.strip())
        if match is None or not any(match.groups()):
            raise PydanticCustomError("duration", "must be a duration such as 90s, 5m or 1h30m, or a number of seconds")
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds
    return given


def _bytes(given: Any) -> Any:
    if isinstance(given, str):
        match = _SIZE.fullmatch(given.strip())
        if match is None:
            raise PydanticCustomError("size", "must be a size such as 20GiB or 512MiB, or a number of bytes")
        return int(match[1]) * _UNITS[match[2] or "B"]
    return given


Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^[0-9.hms]+$"}]}),
]
"""A duration: `90s`, `5m`, `1h30m`, or a number of seconds."""

Bytes = Annotated[
    int,
    BeforeValidator(_bytes),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+ ?([KMGT]i)?B?$"}]}
    ),
]
"""A size: `20GiB`, `512MiB`, or a number of bytes."""
