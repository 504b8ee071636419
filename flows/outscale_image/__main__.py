"""`python -m flows.outscale_image BUILD.yaml`: bake an OMI from a definition."""

from __future__ import annotations

import sys

from flows.command_line import Builder, main


def _load() -> Builder:
    from flows.outscale_image.definition import OutscaleImageDefinition
    from flows.outscale_image.flow import build_outscale_image
    from flows.outscale_image.plan import plan_outscale_image

    return Builder(OutscaleImageDefinition, build_outscale_image, plan_outscale_image)


if __name__ == "__main__":
    sys.exit(main("python -m flows.outscale_image", "outscale-chroot", _load, force="force_deregister"))
