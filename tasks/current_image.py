"""What a definition's current image is: its last good one, as long as that exists.

What was made is kept in Prefect: a table artifact a definition, under the key `image-NAME`, of which the latest version
counts; its rows say one thing each (`what`, `value`). `write_current` writes it when a build of the fleet has
succeeded, `read_current` and `read_currents` read it. Whether the image still exists only its cloud can tell: a
definition's `has_image` asks it, and an image that is gone there is no current image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey
from pydantic import BaseModel, Field, ValidationError

_PARENT = "parent "
_AT_ONCE = 200


class GoodImage(BaseModel):
    """The image that the last good build of a definition made, and what it was made from."""

    definition: str
    """The definition's name in the fleet."""
    builder: str
    id: str
    name: str
    place: str
    """Where it is, in its cloud's words: a project, the silo, a region."""
    source_id: str = ""
    """Id of the source image; empty: it was made from nothing."""
    source_name: str = ""
    parents: dict[str, str] = Field(default_factory=dict)
    """Ids of the images that the parent definitions had then, by definition."""
    digest: str
    """Of the definition: its options, and the scripts and files that it names."""
    built_at: datetime
    run: UUID
    """The flow run that made it."""

    def rows(self) -> list[dict[str, str]]:
        """The artifact's table."""
        said = self.model_dump(mode="json", exclude={"parents"})
        parents = {f"{_PARENT}{name}": image for name, image in self.parents.items()}
        return [{"what": what, "value": value} for what, value in {**said, **parents}.items()]

    @classmethod
    def of_rows(cls, rows: Any) -> Self | None:
        """What a table says; None when it is none of ours."""
        try:
            said = {row["what"]: row["value"] for row in rows}
            parents = {what.removeprefix(_PARENT): said[what] for what in said if what.startswith(_PARENT)}
            return cls.model_validate({**said, "parents": parents})
        except (ValidationError, TypeError, KeyError, AttributeError):
            return None


def artifact_key(definition: str) -> str:
    """The key of a definition's artifact, which may hold lower-case letters, digits and hyphens."""
    return "image-" + re.sub(r"[^a-z0-9]+", "-", definition.lower()).strip("-")


async def write_current(image: GoodImage) -> None:
    """Make an image its definition's current one."""
    await acreate_table_artifact(
        table=[dict(row) for row in image.rows()],
        key=artifact_key(image.definition),
        description=f"Current image of {image.definition}: {image.name}",
    )


async def read_current(client: PrefectClient, definition: str) -> GoodImage | None:
    """The image that the last good build of a definition made; None when there was none."""
    return (await read_currents(client, [definition])).get(definition)


async def read_currents(client: PrefectClient, definitions: Collection[str]) -> Mapping[str, GoodImage]:
    """The same for several; those without one are missing."""
    keys = sorted({artifact_key(name) for name in definitions})
    found: dict[str, GoodImage] = {}
    for start in range(0, len(keys), _AT_ONCE):
        for artifact in await client.read_latest_artifacts(
            artifact_filter=ArtifactCollectionFilter(
                key=ArtifactCollectionFilterKey(any_=keys[start : start + _AT_ONCE])
            ),
            limit=_AT_ONCE,
        ):
            data = artifact.data
            image = GoodImage.of_rows(json.loads(data) if isinstance(data, str) else data)
            if image is not None and image.definition in definitions:
                found[image.definition] = image
    return found
