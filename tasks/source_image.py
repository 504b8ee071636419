"""What an image is made from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class SourceImage:
    """A source image as it is now, on whichever cloud."""

    id: str
    name: str
    created: datetime | None
    """When the image was made; None: its cloud does not say."""
