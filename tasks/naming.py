"""Names with variables in them, cleaned to what their field allows.

`{{timestamp}}` (Unix seconds), `{{isotime}}` (RFC 3339; in names `20261121t120000z`), `{{build_name}}`,
`{{source_name}}` and `{{run_id}}` (the last 8 hex digits of the flow run's id). Times are the flow run's creation, so
that every attempt of a run names things alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from tasks.mark import run_tail

VARIABLES = ("timestamp", "isotime", "build_name", "source_name", "run_id")

_VARIABLE = re.compile(r"\{\{\s*(.*?)\s*\}\}")


def unknown_variables(text: str, known: Iterable[str] = VARIABLES) -> list[str]:
    """The variables of a text that do not exist."""
    allowed = set(known)
    return [name for name in _VARIABLE.findall(text) if name not in allowed]


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
"""Text with variables in it, as an option."""


def variables(run: UUID, created: datetime, *, build_name: str, source_name: str | None = None) -> dict[str, str]:
    """The variables' values. Without a source's name, `source_name` is left as it stands."""
    moment = created.astimezone(UTC)
    values = {
        "timestamp": str(int(moment.timestamp())),
        "isotime": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "build_name": build_name,
        "run_id": run_tail(run),
    }
    return values if source_name is None else {**values, "source_name": source_name}


def render(text: str, values: Mapping[str, str]) -> str:
    """Put values in place of variables; one that has no value stays as it stands."""
    return _VARIABLE.sub(lambda match: values.get(match[1], match[0]), text)


def oxide_name(text: str, values: Mapping[str, str]) -> str:
    """Render a name for an Oxide resource: lower-case letters, digits and hyphens, from a letter to no hyphen.

    Only the variables' values are cleaned. What the user wrote is theirs, and validation tells them when it is wrong.
    """
    isotime = values.get("isotime", "").replace("-", "").replace(":", "").lower()
    return render(text, {name: _clean(value) for name, value in {**values, "isotime": isotime}.items()})


def omi_name(text: str, values: Mapping[str, str]) -> str:
    """Render the name of an OMI: alphanumerics and `_ ()/.-` (API document, CreateImage).

    As with `oxide_name` only the variables' values are cleaned.
    """
    isotime = values.get("isotime", "").replace("-", "").replace(":", "").lower()
    cleaned = {**values, "isotime": isotime}
    return render(text, {name: re.sub(r"[^A-Za-z0-9_ ()/.-]", "-", value) for name, value in cleaned.items()})


def shortened(first: str, suffix: str, length: int) -> str:
    """`first` and `suffix`, cut to a length in the first part and never in the suffix, which makes the name unique."""
    return first[: max(length - len(suffix), 0)].rstrip("-") + suffix


def _clean(value: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", value.lower()).strip("-")
