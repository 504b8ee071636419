"""`watch`: look whether the sources of a fleet's definitions are newer than what their images were made from.

Where one is, it sends the event `image.source.updated`, by which an automation starts that definition's build. A source
is an image of a cloud, or another definition's image: so it also mends what became of a cascade whose events were lost.
As a flow, on a schedule; and as `python -m flows.watch`, once.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow
from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.logging import get_run_logger
from prefect.settings import get_current_settings
from pydantic import BaseModel, ValidationError

from blocks.errors import BakeryError
from flows.fleet.events import SOURCE_UPDATED, resource_id, tell
from flows.fleet.fleet import Fleet
from flows.fleet.members import Member, last_runs, read_fleet_now, read_members
from flows.rehearsal import rehearsal
from tasks.masking import mask_error, masked
from tasks.run import Logger
from tasks.source_image import SourceImage

_GRACE = timedelta(minutes=1)
"""How long an automation may take to start the run that an event asks for."""
_AT_ONCE = 8


@dataclass(frozen=True)
class News:
    """What a definition's source is now."""

    source_id: str
    source_name: str
    parents: Mapping[str, str]
    """The images of its parents."""

    def payload(self, made_from: str) -> dict[str, Any]:
        """What the event says."""
        return {
            "source_id": self.source_id,
            "source_name": self.source_name,
            "parents": dict(self.parents),
            "made_from": made_from,
        }


class Look(BaseModel):
    """What a look at one definition found."""

    definition: str
    outcome: str
    source: str = ""
    made_from: str = ""
    updated: bool = False
    """Whether the event was sent."""
    failed: bool = False
    """Whether the source could not be looked at."""

    def __str__(self) -> str:
        return f"{self.definition}: {self.outcome}"


@flow(name="watch", persist_result=False)
async def watch(only: list[str] | None = None) -> list[Look]:
    """Look at the sources of all definitions, and have those built that are made from an older one.

    Args:
        only: Names of definitions. Default: all that have a deployment.
    """
    logger = get_run_logger()
    looks = await look_around(only or (), logger)
    for look in looks:
        logger.log(logging.WARNING if look.failed else logging.INFO, "%s", look)
    await acreate_table_artifact(
        table=[{name: masked(str(value)) for name, value in look.model_dump().items()} for look in looks],
        key="watch",
        description="The sources of all definitions, and which are newer than the images made from them",
    )
    if failed := [look for look in looks if look.failed]:
        raise BakeryError(
            f"the sources of {len(failed)} definitions could not be looked at",
            resource=", ".join(look.definition for look in failed),
            why=masked("; ".join(look.outcome for look in failed)),
            hint="Mend the reason; watch looks again when it runs next.",
        )
    return looks


async def look_around(only: Sequence[str], logger: Logger) -> list[Look]:
    """Look at the sources of definitions, all or some, and send the events.

    Raises:
        BakeryError: there is no definition of such a name.
    """
    async with get_client() as client:
        members = await read_members(client)
        if unknown := sorted(set(only) - members.keys()):
            raise BakeryError(
                "there is no deployment of such a definition",
                resource=", ".join(unknown),
                why=f"the server knows {', '.join(sorted(members)) or 'none'}",
                hint="Deploy the definitions first: make deploy.",
            )
        fleet = await read_fleet_now(client, members, list(members))
        runs = await last_runs(client, list(members.values()))
        gate = asyncio.Semaphore(_AT_ONCE)

        async def look(name: str) -> Look:
            async with gate:
                return await _look(client, members[name], fleet, runs.get(name), logger)

        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(look(name)) for name in sorted(only or members)]
    return [look.result() for look in looks]


async def _look(client: PrefectClient, member: Member, fleet: Fleet, last: FlowRun | None, logger: Logger) -> Look:
    name = member.name
    image = fleet.images.get(name)
    if image is None:
        return Look(definition=name, outcome="was never built")
    if not member.family.follows_parents:
        return Look(definition=name, outcome="is not built again for a new source: rebuild does not say so")
    try:
        source = await source_of(member, fleet)
    except Exception as error:
        mask_error(error)
        return Look(definition=name, outcome=f"its source cannot be looked at: {masked(str(error))}", failed=True)
    seen = Look(definition=name, outcome="", source=_named(source), made_from=image.source_id)
    news = News(source.id if source else "", source.name if source else "", fleet.parents_now(name))
    is_new = member.family.source is None and news.source_id != image.source_id
    if not is_new and not fleet.is_behind(name):
        return seen.model_copy(update={"outcome": "is up to date"})
    if name in fleet.active:
        return seen.model_copy(update={"outcome": "is behind; a build of it is under way"})
    if (hold_up := fleet.hold_up(name)) is not None:
        how = "failed" if hold_up.blocked else "is built first"
        return seen.model_copy(update={"outcome": f"is behind; {hold_up.by}, which it is made after, {how}"})
    told = await _told(client, name, news)
    if told is not None and not _is_to_be_told_again(told, fleet, name, last):
        return seen.model_copy(update={"outcome": f"is behind, and was told so at {told:%Y-%m-%d %H:%M}"})
    if told is None and not is_new and _failed_after(fleet, name, last):
        return seen.model_copy(update={"outcome": "is behind; its build failed, and is not asked for again by itself"})
    tell(SOURCE_UPDATED, name, news.payload(image.source_id), logger)
    return seen.model_copy(update={"outcome": "is behind: its build is asked for", "updated": True})


async def source_of(member: Member, fleet: Fleet) -> SourceImage | None:
    """The image that a build of this definition would start from now."""
    if member.family.source is not None:
        parent = fleet.images.get(member.family.source.definition)
        return SourceImage(parent.id, parent.name, parent.built_at) if parent else None
    try:
        definition = member.definition()
    except ValidationError as error:
        raise BakeryError(
            "its options are none of this version's",
            resource=f"deployment of {member.name}",
            why=f"{error.error_count()} of them are wrong",
            hint="Deploy the definitions again: make deploy.",
        ) from None
    async with rehearsal(definition) as run:
        return await definition.find_source(run)


def _named(source: SourceImage | None) -> str:
    return f"{source.name} ({source.id})" if source else "none"


async def _told(client: PrefectClient, name: str, news: News) -> datetime | None:
    """When the same news of a definition was last told, if it was."""
    reply = await client.request(
        "POST",
        "/events/filter",
        json={
            "filter": {
                "event": {"name": [SOURCE_UPDATED]},
                "resource": {"id": [resource_id(name)]},
                "order": "DESC",
            },
            "limit": 1,
        },
    )
    for event in reply.json()["events"]:
        said = event["payload"]
        if all(said.get(key) == value for key, value in news.payload(said.get("made_from", "")).items()):
            return datetime.fromisoformat(event["occurred"])
    return None


def _is_to_be_told_again(told: datetime, fleet: Fleet, name: str, last: FlowRun | None) -> bool:
    """Whether what was told came to nothing, and not because a build failed: that is not tried without end."""
    if datetime.now(UTC) - told < _GRACE:
        return False
    ended_since = last is not None and last.end_time is not None and last.end_time > told
    return not (ended_since and name in fleet.failed)


def _failed_after(fleet: Fleet, name: str, last: FlowRun | None) -> bool:
    """Whether the last build failed, and began when the parents' images were there: their own events started it."""
    began = last.start_time if last is not None else None
    images = [fleet.images[parent] for parent in fleet.parents_now(name)]
    return name in fleet.failed and began is not None and all(image.built_at < began for image in images)


def main() -> int:
    """Read the command line, look, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.watch",
        description="Look once at the sources of the definitions that the Prefect server has deployments of, and send "
        "image.source.updated for those that are newer than what the current image was made from.",
        epilog="exit codes: 0 all were looked at, 1 some could not be, 2 the command line holds a mistake. The server "
        "is that of PREFECT_API_URL or of the Prefect profile.",
    )
    parser.add_argument("definition", metavar="NAME", nargs="*", help="only these definitions")
    arguments = parser.parse_args()
    if get_current_settings().api.url is None:
        print("Only a Prefect server knows what was built: set PREFECT_API_URL.", file=sys.stderr)
        return 2
    try:
        looks = asyncio.run(look_around(arguments.definition, logging.getLogger("image_bakery.watch")))
    except BakeryError as error:
        print(error, file=sys.stderr)
        return 1
    for look in looks:
        print(look)
    return 1 if any(look.failed for look in looks) else 0


if __name__ == "__main__":
    sys.exit(main())
