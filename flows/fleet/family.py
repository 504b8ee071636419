"""What a definition is made of, and when it is built again."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.quantities import Seconds


class SourceDefinition(BaseModel):
    """The current good image of another definition."""

    model_config = ConfigDict(extra="forbid")

    definition: str = Field(
        title="Definition", description="Name of another definition of the fleet, of the same builder.", min_length=1
    )


class Family(BaseModel):
    """What a definition is made of, and when it is built again."""

    model_config = ConfigDict(extra="forbid")

    source: SourceDefinition | None = Field(
        default=None,
        title="Source definition",
        description="Start from the current good image of another definition.",
        json_schema_extra={"position": 0},
    )
    rebuild_after: list[str] = Field(
        default_factory=list,
        title="Rebuild after",
        description="More definitions whose new images are a reason to build this one again.",
        json_schema_extra={"position": 1},
    )
    rebuild: list[Literal["source", "definition", "age"]] = Field(
        default_factory=list,
        title="Rebuild",
        description="Build only when one of these says so. Empty: build every time.",
        json_schema_extra={"position": 2},
    )
    max_age: Seconds | None = Field(
        default=None,
        gt=0,
        title="Largest age",
        description="With rebuild: [age], how old the current image may become.",
        json_schema_extra={"position": 3},
    )

    @property
    def parents(self) -> set[str]:
        """The definitions whose new images are a reason to build this one again."""
        return {*self.rebuild_after, *((self.source.definition,) if self.source else ())}

    @property
    def follows_parents(self) -> bool:
        """Whether a parent's new image is a reason to build this one."""
        return not self.rebuild or "source" in self.rebuild
