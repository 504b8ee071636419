"""Whether a definition is built now, and why."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from flows.fleet.events import Cause
from flows.fleet.family import Family
from flows.fleet.fleet import Fleet
from tasks.current_image import GoodImage

UNCHANGED = "Unchanged"
"""What the final state of a run is called that found nothing new."""

Condition = Literal["source", "definition", "age"]


@dataclass(frozen=True)
class Present:
    """How things are for a definition now."""

    name: str
    image: GoodImage | None
    """Its current image."""
    source_id: str | None
    """Id of the image that it would start from; None where nobody asked, or there is none."""
    digest: str
    """Of the definition."""
    now: datetime


@dataclass(frozen=True)
class Decision:
    """Whether to build."""

    builds: bool
    why: str
    state: str = ""
    """What the run's final state is called if nothing is built."""
    blocked_by: str | None = None


def conditions(family: Family, cause: Cause | None) -> Set[Condition] | None:
    """The conditions of which one has to hold; None: it is built whatever they say.

    An event is a reason to look, not to build: another may have brought the same news before. Where `rebuild` is given
    and does not say source, a new source or parent is no reason.
    """
    if cause is not None and cause.only_changed:
        return {"source", "definition", *family.rebuild}
    if family.rebuild:
        return set(family.rebuild)
    return {"source"} if cause is not None and cause.is_news else None


def decide(family: Family, cause: Cause | None, present: Present, fleet: Fleet) -> Decision:
    """Decide about one definition.

    Args:
        family: Its parents, and when it is built again.
        cause: The event that started the run; None: a schedule or a person did.
        present: How things are.
        fleet: The same for all definitions.
    """
    image = present.image
    since = cause.since if cause is not None else None
    if since and image and image.built_at >= since and not _news_of_source(family, present, fleet):
        return _unchanged(image, f"it was built in this wave, at {image.built_at:%H:%M:%S}")
    asked = conditions(family, cause)
    if asked is None:
        return Decision(True, "it is built every time")
    others = _other_reasons(family, present, asked)
    sources = _news_of_source(family, present, fleet) if "source" in asked else []
    if image is None:
        sources.append("it has no current image")
    if not (others or sources):
        checked = ", ".join(condition for condition in ("source", "definition", "age") if condition in asked)
        return _unchanged(image, f"nothing has changed ({checked})")
    if not others and since is None and (hold_up := fleet.hold_up(present.name)):
        why = "; ".join(sources)
        if hold_up.blocked:
            text = f"{why}; but {hold_up.by}, which it is made after, failed: it is built once that has a new image"
            return Decision(False, text, f"Blocked by {hold_up.by}", hold_up.by)
        text = f"{why}; {hold_up.by}, which it is made after, is built first, and starts it again"
        return Decision(False, text, f"Waiting for {hold_up.by}")
    return Decision(True, "; ".join([*sources, *others]))


def _news_of_source(family: Family, present: Present, fleet: Fleet) -> list[str]:
    image = present.image
    if image is None:
        return []
    news = []
    if present.source_id is not None and family.source is None and present.source_id != image.source_id:
        news.append(f"its source is {present.source_id} now, and it was made from {image.source_id or 'nothing'}")
    for parent, parent_image in fleet.parents_now(present.name).items():
        if image.parents.get(parent) != parent_image:
            news.append(f"{parent} has a new image, {parent_image}")
    return news


def _other_reasons(family: Family, present: Present, asked: Set[Any]) -> list[str]:
    image = present.image
    if image is None:
        return []
    reasons = []
    if "definition" in asked and present.digest != image.digest:
        reasons.append("the definition, or a file that it names, has changed")
    age = present.now - image.built_at
    if "age" in asked and family.max_age is not None and age > timedelta(seconds=family.max_age):
        reasons.append(f"its image is {_days(age)} old")
    return reasons


def _unchanged(image: GoodImage | None, why: str) -> Decision:
    made = f": {image.name} ({image.id}) of {image.built_at:%Y-%m-%d %H:%M} UTC stays" if image else ""
    return Decision(False, f"{why}{made}", UNCHANGED)


def _days(age: timedelta) -> str:
    return f"{age.days} days" if age.days else f"{age.total_seconds() / 3600:.1f} hours"
