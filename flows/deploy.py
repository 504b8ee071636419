"""`python -m flows.deploy`: every definition file becomes a deployment on the Prefect server.

It can be repeated. Everything is checked first, and nothing is changed where something is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect.client.orchestration import PrefectClient, get_client
from prefect.settings import get_current_settings
from prefect.utilities.schema_tools import validate

from blocks.errors import BakeryError, DefinitionError, Mistake
from flows.fleet.definitions import located, read_fleet
from flows.fleet.family import Family
from flows.fleet.file import FleetDefinition
from flows.fleet.infrastructure import register, work_pools
from flows.fleet.leftovers import Leftovers, deployments, left_behind, prune
from flows.fleet.named_blocks import missing_blocks
from flows.fleet.notification import notify
from flows.fleet.pull import COMMIT, pull_steps, set_variables
from flows.fleet.register import Wanted, deploy, wanted
from flows.forms import MORE
from flows.yaml_file import option_path

ROOT = Path(__file__).resolve().parents[1]

_EPILOG = """A deployment has its file's name. Those of prefect.yaml (builds by hand, reclaim) come with them, and its
pull steps say how a worker gets at definitions and scripts.

exit codes:
  0  done (with --dry-run: it could be done)
  1  the server cannot be reached, or refused something
  2  the definitions hold mistakes, or name what the server does not have; nothing was changed"""


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    wanted: Sequence[Wanted]
    new: frozenset[str]
    """Full names."""
    pools: Sequence[str]
    """Work pools that are to be made."""
    leftovers: Leftovers

    def report(self, *, prunes: bool) -> Iterator[str]:
        """For people."""
        yield from (f"new      work pool {name}" for name in self.pools)
        for wish in self.wanted:
            how = "new    " if wish.full_name in self.new else "updated"
            yield f"{how}  deployment {wish.full_name}{_when(wish)}"
        for name in self.leftovers.names:
            yield f"{'removed' if prunes else 'left   '}  {name}: no definition makes it any more"
        if self.leftovers.names and not prunes:
            yield "         --prune removes what is left"


def main() -> int:
    """Read the command line, deploy, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.deploy",
        description="Make every definition file of a directory a deployment on the Prefect server of PREFECT_API_URL.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "definitions", metavar="DIRECTORY", type=Path, nargs="?", default=ROOT / "deployments",
        help="where the definition files are (default: deployments); its subdirectories are not read",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="check everything, and say what would be done")
    parser.add_argument(
        "--prune", action="store_true", help="also remove the deployments and queues of definitions that are gone"
    )
    parser.add_argument(
        "--notify", metavar="TYPE/NAME", help="also tell this notification block (slack-webhook/team) of failed builds"
    )
    arguments = parser.parse_args()
    directory = arguments.definitions.resolve()
    try:
        if not directory.is_dir():
            raise BakeryError("there is no such directory", resource=str(directory))
        if get_current_settings().api.url is None:
            raise BakeryError("no Prefect server is named", hint="export PREFECT_API_URL=http://127.0.0.1:4200/api")
        set_variables(ROOT, os.environ, directory)
        for line in asyncio.run(
            _deploy(directory, dry_run=arguments.dry_run, prunes=arguments.prune, block=arguments.notify)
        ):
            print(line)
    except DefinitionError as error:
        print(error, file=sys.stderr)
        return 2
    except BakeryError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _deploy(directory: Path, *, dry_run: bool, prunes: bool, block: str | None) -> list[str]:
    definitions = read_fleet(directory)
    steps = pull_steps(ROOT)
    async with get_client() as client:
        if (error := await client.api_healthcheck()) is not None:
            raise BakeryError("the Prefect server does not answer", resource=str(client.api_url), why=str(error))
        plan = await _plan(client, definitions, directory)
        if dry_run:
            return [*plan.report(prunes=prunes), "Nothing was changed."]
        await register(client, definitions)
        _deploy_fixed()
        for wish in plan.wanted:
            await deploy(client, wish, root=ROOT, pull=steps, version=os.environ.get(COMMIT, ""))
        if prunes:
            await prune(client, plan.leftovers)
        told = [f"set      automation {await notify(client, block)}"] if block else []
    return [*plan.report(prunes=prunes), *told]


async def _plan(client: PrefectClient, definitions: Sequence[FleetDefinition], directory: Path) -> Plan:
    """Look at the server, and check what can only be checked there.

    Raises:
        DefinitionError: something is missing there, or it would refuse something.
    """
    wishes = wanted(definitions, ROOT)
    # The first of them are those of the definitions themselves.
    found = [*_refused(zip(definitions, wishes, strict=False)), *await missing_blocks(client, definitions)]
    if found:
        raise DefinitionError([located(*each) for each in found], source=str(directory))
    there = await deployments(client)
    names = {wish.full_name for wish in wishes}
    return Plan(
        wishes,
        frozenset(names - there.keys()),
        [name for name, is_there in (await work_pools(client, definitions)).items() if not is_there],
        await left_behind(client, there, names, definitions),
    )


def _refused(wishes: Iterable[tuple[FleetDefinition, Wanted]]) -> Iterator[tuple[FleetDefinition, Mistake]]:
    """Parameters that the server would refuse, though the models take them."""
    for definition, wish in wishes:
        schema = wish.flow.parameters.model_dump_for_openapi()
        for error in validate(dict(wish.parameters), schema):
            sections = {section.name for section in definition.build.sections} | {MORE.name}
            option = option_path([part for part in list(error.absolute_path)[1:] if part not in sections])
            yield definition, Mistake(option, f"would be refused by the server: {error.message[:200]}")


def _deploy_fixed() -> None:
    """The deployments of prefect.yaml, by Prefect's own command.

    Raises:
        BakeryError: it failed, with its own words.
    """
    argv = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BakeryError(
            "prefect deploy failed",
            resource=str(ROOT / "prefect.yaml"),
            why="\n" + "\n".join((done.stdout + done.stderr).splitlines()[-15:]),
        )


def _when(wish: Wanted) -> str:
    schedules = [
        schedule.cron or schedule.rrule or f"every {schedule.interval:g} s" for schedule in wish.options.all_schedules
    ]
    family = Family.model_validate(wish.parameters.get("family", {}))
    parents = [f"after {' and '.join(sorted(family.parents))}"] if family.parents else []
    return "".join(f", {when}" for when in (*schedules, *parents))


if __name__ == "__main__":
    sys.exit(main())
