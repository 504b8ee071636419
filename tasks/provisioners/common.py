"""What all provisioners share: their common options, and what they are given to work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from blocks.errors import Mistake
from blocks.forms import plain_optionals
from tasks.communicator import Communicator
from tasks.run import Logger


@dataclass(frozen=True)
class Bench:
    """What a provisioner works with."""

    communicator: Communicator
    logger: Logger
    base: Path
    """The definition's directory: relative paths on this host resolve against it."""
    variables: Mapping[str, str]
    """Environment variables that every script sees."""

    def here(self, path: str) -> Path:
        """A path of this host, as the definition means it."""
        return on_this_host(self.base, path)


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

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return plain_optionals(handler.resolve_ref_schema(handler(core)))

    def missing_here(self, base: Path, option: str) -> list[Mistake]:
        """What the definition names and this host does not have. `option` is this provisioner's path in it."""
        del base, option
        return []


def must_exist(base: Path, path: str, option: str) -> list[Mistake]:
    """A mistake when there is nothing at a path of this host."""
    found = on_this_host(base, path)
    return [] if found.exists() else [Mistake(option, f"must exist on the host that builds ({found})", path)]
