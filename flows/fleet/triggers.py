"""The events that start a definition's builds: new images of its parents, a new source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from prefect.events import DeploymentEventTrigger
from prefect.events.schemas.automations import Posture
from prefect.events.schemas.events import ResourceSpecification

from flows.fleet.events import BUILT, SOURCE_UPDATED, resource_id
from flows.fleet.family import Family

WHAT_HAPPENED: Mapping[str, Any] = MappingProxyType(
    {
        "event": {
            "__prefect_kind": "json",
            "value": {"__prefect_kind": "jinja", "template": "{{ event.payload | tojson }}"},
        }
    }
)
"""A run's parameters from the event that starts it: the payload as it is, a mapping."""


def cascade(name: str, family: Family) -> list[DeploymentEventTrigger]:
    """What starts a definition's build by itself."""
    triggers = [_on(SOURCE_UPDATED, [name], f"{name}: its source is another")]
    if family.parents and family.follows_parents:
        triggers.append(_on(BUILT, sorted(family.parents), f"{name}: a parent has a new image"))
    return triggers


def _on(event: str, definitions: Iterable[str], name: str) -> DeploymentEventTrigger:
    return DeploymentEventTrigger(
        name=name,
        posture=Posture.Reactive,
        expect={event},
        match=ResourceSpecification({"prefect.resource.id": [resource_id(each) for each in definitions]}),
        parameters=dict(WHAT_HAPPENED),
    )
