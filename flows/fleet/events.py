"""The events of a fleet, as others see them: what is sent, and what comes back as a run's parameter `event`.

Resource: `image-bakery.definition.NAME`; for a build of no definition of a fleet NAME is its build name.

- `image.built`: a new image. Payload: definition, image_id, image_name, builder, place, source_id, source_name,
  digest, parents ({definition: image id}), run.
- `image.failed`: a build ended badly. Payload: definition, what, step, hint, run.
- `image.blocked`: a definition is not built because an ancestor failed. Payload: definition, by, run.
- `image.source.updated`: the source is another than the one that the current image was made from. Payload: definition,
  source_id, source_name, made_from.
- `definitions.pushed`, of resource `image-bakery.definitions`: somebody else says that definitions have changed.

Each payload also has `event`, its own name: an automation hands the payload alone to the run that it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from prefect.events import emit_event
from pydantic import BaseModel, ConfigDict

from tasks.masking import masked
from tasks.run import Logger

BUILT = "image.built"
FAILED = "image.failed"
BLOCKED = "image.blocked"
SOURCE_UPDATED = "image.source.updated"
BUILD_ALL = "build-all"
"""No event: what `build_all` tells the runs that it starts."""

_LONGEST = 2000


class Cause(BaseModel):
    """What a run's parameter `event` says: why it was started."""

    model_config = ConfigDict(extra="allow")

    event: str = ""
    definition: str | None = None
    """Whose event it was."""
    image_id: str | None = None
    """With `image.built`, the new image."""
    since: datetime | None = None
    """From `build_all`: when its wave began. What was built since then is not built again."""
    only_changed: bool = False
    """From `build_all`: only what has changed is built."""

    @property
    def is_news(self) -> bool:
        """Whether it says that a source or a parent has a new image."""
        return self.event in (BUILT, SOURCE_UPDATED)

    def image_of(self, definition: str) -> str | None:
        """The image of a definition that it tells of."""
        return self.image_id if self.event == BUILT and self.definition == definition else None


def resource_id(definition: str) -> str:
    """How events call a definition."""
    return f"image-bakery.definition.{definition}"


def tell(event: str, definition: str, payload: Mapping[str, Any], logger: Logger) -> None:
    """Send an event. Nothing fails for want of it.

    Args:
        event: Its name.
        definition: Whose event it is.
        payload: What it says, without its name and the definition's.
        logger: Who is told when it cannot be sent.
    """
    try:
        emit_event(
            event,
            resource={"prefect.resource.id": resource_id(definition), "prefect.resource.name": definition},
            payload={"event": event, "definition": definition, **{name: _short(payload[name]) for name in payload}},
        )
    except Exception as error:
        logger.warning("The event %s of %s could not be sent: %s", event, definition, error)


def _short(value: Any) -> Any:
    return masked(value)[:_LONGEST] if isinstance(value, str) else value
