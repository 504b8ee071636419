"""Options that hold variables: the house's own, and the names that the seed builder gives to region and source OMI."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from tasks.naming import VARIABLES, omi_name, render, unknown_variables

OMI_NAME = re.compile(r"[A-Za-z0-9_ ()/.-]{3,128}")
"""What an OMI may be called (API document, CreateImage)."""
NAME_LENGTH = 128

_SEED_VARIABLES = (".BuildRegion", ".SourceOMI", ".SourceOMIName")
_TAG_OF_SOURCE = re.compile(r'\{\{\s*index\s+\.SourceOMITags\s+"([^"]*)"\s*\}\}')


def _check_text(value: str) -> str:
    if unknown := unknown_variables(_TAG_OF_SOURCE.sub("", value), (*VARIABLES, *_SEED_VARIABLES)):
        raise PydanticCustomError(
            "variable",
            'has unknown variables: {unknown}; there are {known} and index .SourceOMITags "KEY"',
            {"unknown": ", ".join(unknown), "known": ", ".join((*VARIABLES, *_SEED_VARIABLES))},
        )
    return value


def _check_name(value: str) -> str:
    _check_text(value)
    # What variables become is cleaned to what a name may hold; only what stands around them can be wrong.
    if not OMI_NAME.fullmatch(re.sub(r"\{\{.*?\}\}", "xxx", value)):
        raise PydanticCustomError("omi_name", "must be 3 to 128 letters, digits, blanks and any of _ ( ) / . -")
    return value


OmiText = Annotated[str, AfterValidator(_check_text)]
"""Text with variables in it."""
OmiName = Annotated[str, AfterValidator(_check_name)]
"""An OMI's name with variables in it."""


@dataclass(frozen=True)
class Values:
    """What variables stand for in one run."""

    names: Mapping[str, str]
    """`timestamp`, `.SourceOMI` and so on."""
    source_tags: Mapping[str, str]
    """Tags of the source OMI; one that it does not have is empty, as in a Go template."""

    @classmethod
    def of(
        cls,
        house: Mapping[str, str],
        *,
        region: str,
        source_id: str = "",
        source_name: str = "",
        source_tags: Mapping[str, str] | None = None,
    ) -> Values:
        """The house's variables, and those of the seed builder. From scratch there is no source, and its are empty."""
        seed = dict(zip(_SEED_VARIABLES, (region, source_id, source_name), strict=True))
        return cls({**house, **seed}, source_tags or {})

    def text(self, text: str) -> str:
        """A text with its variables in place."""
        # The source's tags come last: what they hold is no template.
        return _TAG_OF_SOURCE.sub(lambda match: self.source_tags.get(match[1], ""), render(text, self.names))

    def name(self, text: str) -> str:
        """An OMI's name with its variables in place, each cleaned to what a name may hold."""
        named = {f"tag:{key}": value for key, value in self.source_tags.items()}
        text = _TAG_OF_SOURCE.sub(lambda match: f"{{{{tag:{match[1]}}}}}" if match[1] in self.source_tags else "", text)
        return omi_name(text, {**self.names, **named})

    def tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Tags with the variables of their keys and values in place."""
        return {self.text(key): self.text(value) for key, value in tags.items()}
