"""`python -m flows.outscale_image BUILD.yaml`: bake an OMI from a definition."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from flows.command_line import main

if TYPE_CHECKING:
    from flows.definition import BuildDefinition


def _load() -> tuple[type[BuildDefinition[Any]], Callable[[Any], Coroutine[Any, Any, Any]]]:
    from flows.outscale_image.definition import OutscaleImageDefinition
    from flows.outscale_image.flow import build_outscale_image

    return OutscaleImageDefinition, build_outscale_image


if __name__ == "__main__":
    sys.exit(main("python -m flows.outscale_image", "outscale-chroot", _load))
