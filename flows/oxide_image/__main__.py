"""`python -m flows.oxide_image BUILD.yaml`: bake an Oxide image from a definition."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from flows.command_line import main

if TYPE_CHECKING:
    from flows.definition import BuildDefinition


def _load() -> tuple[type[BuildDefinition[Any]], Callable[[Any], Coroutine[Any, Any, Any]]]:
    from flows.oxide_image.definition import OxideImageDefinition
    from flows.oxide_image.flow import build_oxide_image

    return OxideImageDefinition, build_oxide_image


if __name__ == "__main__":
    sys.exit(main("python -m flows.oxide_image", "oxide-instance", _load))
