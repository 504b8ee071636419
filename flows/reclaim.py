"""`reclaim`: remove what dead builds left, in all projects and accounts that it is given.

As a flow, on a schedule and on the events that end a build; and as `python -m flows.reclaim`, for a host that has no
server.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.artifacts import acreate_table_artifact
from prefect.blocks.abstract import CredentialsBlock
from prefect.client.orchestration import PrefectClient, get_client
from prefect.logging import get_run_logger
from prefect.settings import get_current_settings
from pydantic import BaseModel

from blocks.errors import BakeryError, DefinitionError, LeftBehind
from blocks.outscale.credentials import OutscaleCredentials
from blocks.oxide.credentials import OxideCredentials
from flows.definition import BuildDefinition
from flows.fleet.file import read_file
from flows.kinds import OF_FLOW
from flows.places import AnyPlace, OutscalePlace, OxidePlace, all_of, definition_place
from tasks.dead import Life
from tasks.mark import LOCAL_SERVER
from tasks.masking import masked
from tasks.runs import call_crashed, going_on, lives
from tasks.server import server_name
from tasks.sweep import Place, Runs, Sweep, sweep

_Openers = Mapping[str, AbstractAsyncContextManager[list[Place]]]


class Reclaimed(BaseModel):
    """What reclaim did."""

    removed: int
    left_alone: int
    could_not_be_removed: int
    not_looked_through: list[str]


class _ServerRuns:
    """What a Prefect server knows of runs."""

    def __init__(self, client: PrefectClient, server: str) -> None:
        self._client = client
        self.server = server

    async def going_on(self) -> set[UUID]:
        """See `tasks.runs.going_on`."""
        return await going_on(self._client, OF_FLOW)

    async def lives(self, runs: set[UUID]) -> dict[UUID, Life]:
        """See `tasks.runs.lives`."""
        return await lives(self._client, runs, datetime.now(UTC))

    async def call_crashed(self, run: UUID, why: str, attempt: int | None) -> None:
        """See `tasks.runs.call_crashed`."""
        await call_crashed(self._client, run, why, attempt=attempt)


class NoRuns:
    """A host with no Prefect server: nothing is known of runs but whether their processes live here."""

    server = LOCAL_SERVER

    async def going_on(self) -> set[UUID]:
        """Nothing is known."""
        return set()

    async def lives(self, runs: set[UUID]) -> dict[UUID, Life]:
        """Nothing is known."""
        del runs
        return {}

    async def call_crashed(self, run: UUID, why: str, attempt: int | None) -> None:
        """There is nobody to tell."""


@flow(name="reclaim", persist_result=False)
async def reclaim(where: list[AnyPlace] | None = None, dry_run: bool = False) -> Reclaimed:
    """Remove what dead builds left. Live builds, kept ones and what is not ours are left alone.

    Args:
        where: Projects and accounts. Default: all that the credentials blocks on this server lead to.
        dry_run: Only say what would be removed.
    """
    logger = get_run_logger()
    async with get_client() as client:
        openers = _given(where) if where else await _blocks()
        runs = _ServerRuns(client, await server_name())
        async with all_of(openers) as (places, failed):
            done = await sweep(places, runs, dry_run=dry_run, logger=logger)
    done.failed |= failed
    report = masked(done.report())
    logger.info("%s", report)
    await acreate_table_artifact(
        table=[{name: masked(str(value)) for name, value in row.items()} for row in done.table()],
        key="reclaim",
        description="What builds left, and what became of it",
    )
    unseen = [] if where else done.unseen
    if done.left or done.failed or unseen:
        raise LeftBehind(
            f"{len(done.left)} resources could not be removed, {len(done.failed)} places could not be looked through"
            + (f", and no credentials block leads to what {len(unseen)} dead builds made" if unseen else ""),
            why=f"\n{report}",
            hint="Mend the reason; reclaim tries again when it runs next.",
        )
    return Reclaimed(
        removed=sum(found.outcome == "removed" for found in done.found),
        left_alone=sum(found.outcome == "left alone" for found in done.found),
        could_not_be_removed=len(done.left),
        not_looked_through=list(done.failed),
    )


def _given(where: list[AnyPlace]) -> _Openers:
    return {f"{place.cloud} {number}": place.opened() for number, place in enumerate(where, start=1)}


async def _blocks() -> _Openers:
    """A place for each credentials block on the server."""
    async with get_client() as client:
        openers: dict[str, AbstractAsyncContextManager[list[Place]]] = {}
        for name in await _block_names(client, OxideCredentials):
            openers[f"Oxide Credentials {name}"] = OxidePlace.of_block(name).opened()
        for name in await _block_names(client, OutscaleCredentials):
            openers[f"OUTSCALE Credentials {name}"] = OutscalePlace.of_block(name).opened()
        return openers


async def _block_names(client: PrefectClient, kind: type[CredentialsBlock]) -> list[str]:
    documents = await client.read_block_documents_by_type(kind.get_block_type_slug(), include_secrets=False)
    return [document.name for document in documents if document.name]


_EPILOG = """Live builds, builds that are kept and what is not ours are left alone. Without a Prefect server
(PREFECT_API_URL) only what dead builds of this host left goes, and what is past the time that its mark names.

exit codes:
  0    nothing is left that should be gone (with --dry-run: nothing would be removed)
  1    something could not be removed, or could not be looked through
  2    a definition or the command line holds mistakes
  3    with --dry-run: something would be removed"""


def main() -> int:
    """Read the command line, reclaim, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.reclaim",
        description="Remove what dead builds left in the projects and accounts of these definitions.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("definition", metavar="BUILD.yaml", type=Path, nargs="+", help="build definitions")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    try:
        definitions = [each.build for path in arguments.definition for each in read_file(path)]
        done = asyncio.run(_reclaim_here(definitions, dry_run=arguments.dry_run))
    except DefinitionError as error:
        print(error, file=sys.stderr)
        return 2
    except BakeryError as error:
        print(error, file=sys.stderr)
        return 1
    print(masked(done.report()))
    if done.left or done.failed:
        return 1
    return 3 if any(found.outcome == "would be removed" for found in done.found) else 0


async def _reclaim_here(definitions: list[BuildDefinition[Any]], *, dry_run: bool) -> Sweep:
    logger = logging.getLogger("image_bakery.reclaim")
    logger.setLevel(logging.INFO)
    openers = {
        f"{definition.definition_file} {definition.build_name}": definition_place(definition)
        for definition in definitions
    }
    async with AsyncExitStack() as stack:
        runs: Runs = NoRuns()
        if get_current_settings().api.url is not None:
            runs = _ServerRuns(await stack.enter_async_context(get_client()), await server_name())
        places, failed = await stack.enter_async_context(all_of(openers))
        done = await sweep(places, runs, dry_run=dry_run, logger=logger)
    done.failed |= failed
    return done


if __name__ == "__main__":
    sys.exit(main())
