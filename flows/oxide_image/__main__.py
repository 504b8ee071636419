"""`python -m flows.oxide_image BUILD.yaml`: bake an Oxide image from a definition."""

from __future__ import annotations

import sys

from flows.command_line import Builder, main


def _load() -> Builder:
    from flows.oxide_image.definition import OxideImageDefinition
    from flows.oxide_image.dry_run import plan_oxide_image
    from flows.oxide_image.flow import build_oxide_image

    return Builder(OxideImageDefinition, build_oxide_image, plan_oxide_image)


if __name__ == "__main__":
    sys.exit(main("python -m flows.oxide_image", "oxide-instance", _load, force="force"))
