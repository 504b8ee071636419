"""`fleet-page`: one page that says how every definition of the fleet is doing.

As a flow, on a schedule and whenever an image was built or a build failed; the page is the artifact `fleet`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.logging import get_run_logger
from prefect.utilities.urls import url_for

from flows.fleet.fleet import Fleet
from flows.fleet.members import Member, last_runs, read_fleet_now, read_members
from flows.rehearsal import rehearsal
from flows.watch import source_of
from tasks.masking import mask_error, masked
from tasks.source_image import SourceImage

_AT_ONCE = 8
_LOOK_LASTS = 120
"""Seconds that the look at one definition's cloud may take."""


@dataclass(frozen=True)
class Sight:
    """What a definition's cloud says."""

    source: SourceImage | None = None
    has_image: bool = True
    unseen: str = ""
    """Why nothing could be seen."""


@dataclass(frozen=True)
class Row:
    """What the page says of one definition."""

    name: str
    image: str
    age: str
    source_age: str
    last: str
    next: str
    verdict: str

    @property
    def is_fine(self) -> bool:
        """Whether nobody has to do anything."""
        return self.verdict.startswith(_FRESH)


_FRESH, _STALE, _UNKNOWN = "✓ current", "✗ stale", "? unknown"
_HEAD = ("definition", "", "current image", "age", "source's age", "last run", "next run")


@flow(name="fleet-page", persist_result=False)
async def fleet_page() -> list[Row]:
    """Write the fleet's page: each definition's image, how old it and its source are, its last and next run."""
    async with get_client() as client:
        members = await read_members(client)
        fleet = await read_fleet_now(client, members, list(members))
        last = await last_runs(client, list(members.values()))
        gate = asyncio.Semaphore(_AT_ONCE)

        async def row(name: str) -> Row:
            async with gate:
                coming = await _next_run(client, members[name])
                return row_of(members[name], fleet, await _look(members[name], fleet), last.get(name), coming)

        async with asyncio.TaskGroup() as group:
            rows = [group.create_task(row(name)) for name in sorted(members)]
    found = [row.result() for row in rows]
    await acreate_markdown_artifact(
        markdown=page(found, datetime.now(UTC)), key="fleet", description="How every definition of the fleet is doing"
    )
    for each in found:
        get_run_logger().info("%s: %s", each.name, each.verdict)
    return found


async def _next_run(client: PrefectClient, member: Member) -> FlowRun | None:
    runs = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[member.deployment]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=1,
    )
    return runs[0] if runs else None


async def _look(member: Member, fleet: Fleet) -> Sight:
    image = fleet.images.get(member.name)
    try:
        async with asyncio.timeout(_LOOK_LASTS):
            source = await source_of(member, fleet)
            if image is None:
                return Sight(source)
            async with rehearsal(member.definition()) as run:
                return Sight(source, await member.definition().has_image(run, image.id))
    except TimeoutError:
        return Sight(unseen=f"its cloud did not answer within {_LOOK_LASTS} s")
    except Exception as error:
        mask_error(error)
        return Sight(unseen=str(error).splitlines()[0] if str(error) else type(error).__name__)


def row_of(member: Member, fleet: Fleet, sight: Sight, last: FlowRun | None, coming: FlowRun | None) -> Row:
    """What the page says of one definition."""
    now = datetime.now(UTC)
    image = fleet.images.get(member.name)
    source = sight.source
    return Row(
        name=member.name,
        image=image.name if image else "none",
        age=_age(now - image.built_at) if image else "",
        source_age=_age(now - source.created) if source and source.created else "",
        last=_run(last, last.end_time if last else None, now),
        next=_run(coming, coming.expected_start_time if coming else None, now),
        verdict=_verdict(member, fleet, sight, now),
    )


def _verdict(member: Member, fleet: Fleet, sight: Sight, now: datetime) -> str:
    image, family = fleet.images.get(member.name), member.family
    building = "; a build is under way" if member.name in fleet.building else ""
    failed = "; its last build failed" if member.name in fleet.failed else ""
    more = building or failed
    if image is None:
        return f"{_STALE}: it has no image{more}"
    if sight.unseen:
        return f"{_UNKNOWN}: {sight.unseen}{more}"
    reasons = []
    if not sight.has_image:
        reasons.append("its image is gone")
    if family.source is None and (sight.source.id if sight.source else "") != image.source_id:
        reasons.append("its source is another now")
    had = image.parents
    reasons += [
        f"{name} has a new image" for name, now_id in fleet.parents_now(member.name).items() if had.get(name) != now_id
    ]
    if family.max_age is not None and now - image.built_at > timedelta(seconds=family.max_age):
        reasons.append("it is older than max_age")
    return f"{_STALE}: {', '.join(reasons)}{more}" if reasons else f"{_FRESH}{more}"


def _run(run: FlowRun | None, when: datetime | None, now: datetime) -> str:
    if run is None or when is None:
        return "none"
    span = f"{_age(now - when)} ago" if when <= now else f"in {_age(when - now)}"
    state = f"{run.state_name} " if run.state_type != StateType.SCHEDULED else ""
    url = url_for(run)
    return f"[{state}{span}]({url})" if url else f"{state}{span}"


def _age(span: timedelta) -> str:
    """A span of time in the one unit that tells it best."""
    seconds = span.total_seconds()
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def page(rows: Sequence[Row], now: datetime) -> str:
    """The page's markdown: what somebody has to look at comes first."""
    fine = sum(row.is_fine for row in rows)
    lines = ["# Fleet", f"{fine} of {len(rows)} definitions are current, at {now:%Y-%m-%d %H:%M} UTC."]
    if rows:
        cells = [_HEAD, ["---"] * len(_HEAD)]
        for row in sorted(rows, key=lambda row: (row.is_fine, row.name)):
            said = (f"**{row.name}**", row.verdict, row.image, row.age, row.source_age, row.last, row.next)
            cells.append([text.replace("|", "\\|").replace("\n", " ") for text in said])
        lines.append("\n".join(f"| {' | '.join(cell)} |" for cell in cells))
    else:
        lines.append("There is none: `make deploy` makes a deployment of each file in `deployments/`.")
    return masked("\n\n".join(lines))
