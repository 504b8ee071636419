"""The builders, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.definition import BuildDefinition
from flows.outscale_image.definition import OutscaleImageDefinition
from flows.oxide_image.definition import OxideImageDefinition

BUILDERS: Mapping[str, type[BuildDefinition[Any]]] = {
    model.builder: model for model in (OxideImageDefinition, OutscaleImageDefinition)
}
OF_FLOW: Mapping[str, type[BuildDefinition[Any]]] = {model.flow_name: model for model in BUILDERS.values()}
"""What the flows build, by the flows' names."""
