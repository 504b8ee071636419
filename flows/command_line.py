"""Baking from the command line, with no worker and, if need be, no server."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from blocks.errors import BakeryError, DefinitionError
from flows.interrupts import run_until_interrupted
from flows.private_server import start_prefect_server

if TYPE_CHECKING:
    from flows.definition import BuildDefinition
    from flows.fleet.file import FleetDefinition

FAILED, BAD_DEFINITION, INTERRUPTED, TERMINATED = 1, 2, 130, 143

_EPILOG = """exit codes:
  0    the image is made (with --validate: the definition holds no mistake)
  1    the build failed or was cancelled; nothing temporary is left, or the log says what is
  2    the definition or the command line holds mistakes; nothing was created
  130  interrupted (Ctrl-C), 143 terminated: the build is cleaned up after. A second Ctrl-C says how far that is, a
       third leaves it to the reaper and says what is left

A build runs on the Prefect server that PREFECT_API_URL (or the Prefect profile) names; without one it starts one of
its own, which ends with it. IMAGE_BAKERY_* variables set deadlines and poll times: see the README."""


class Plan(Protocol):
    """What a build would do."""

    def report(self) -> str:
        """For people."""
        ...


@dataclass(frozen=True)
class Builder:
    """What the command line needs of a builder."""

    definition: type[BuildDefinition[Any]]
    flow: Callable[..., Coroutine[Any, Any, Any]]
    plan: Callable[[Any], Coroutine[Any, Any, Plan]]
    """Asks the cloud what a build asks before it makes anything, and says what it would make."""


def main(program: str, builder: str, load: Callable[[], Builder], *, force: str) -> int:
    """Read the command line, bake, and return the exit code.

    Args:
        program: How the command is called.
        builder: The builder's name.
        load: Imports the builder. Called once a server is on its way, since Prefect takes
            its time to import.
        force: The option by which an image of the artifact's name is replaced.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description=f"Bake a machine image with the {builder} builder.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("definition", metavar="BUILD.yaml", type=Path, help="the build definition")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="give an option another value than the file does; the value is YAML. Can be repeated",
    )
    parser.add_argument(
        "--variant", default="", metavar="NAME", help="which variant, where the definition has a matrix"
    )
    parser.add_argument("--artifact", metavar="FILE", type=Path, help="also write the artifact to a file, as JSON")
    parser.add_argument("--force", action="store_true", help="take the place of an image that has the artifact's name")
    parser.add_argument(
        "--on-error",
        choices=["cleanup", "keep", "ask"],
        help="what becomes of a build that fails, in place of the definition's on_error",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--validate", action="store_true", help="only look for mistakes that can be seen from here")
    instead.add_argument(
        "--dry-run", action="store_true", help="also ask the cloud, and say what would be made; nothing is"
    )
    instead.add_argument(
        "--resume", metavar="RUN", type=UUID, help="go on with the build of a flow run that failed and was kept"
    )
    instead.add_argument(
        "--clean-up", metavar="RUN", type=UUID, help="build nothing; remove what a flow run's build kept"
    )
    parser.add_argument(
        "--manifest", metavar="FILE", help="append what was made to a file as Packer's manifest post-processor does"
    )
    arguments = parser.parse_args()
    is_changed = bool(arguments.set)
    if arguments.manifest:
        arguments.set.append(f"manifest={json.dumps(str(Path(arguments.manifest).absolute()))}")
    if arguments.on_error:
        arguments.set.append(f"on_error={arguments.on_error}")
    if arguments.force:
        arguments.set.append(f"{force}=true")
    try:
        if arguments.validate:
            _read(load(), arguments)
            print(f"{arguments.definition}: no mistakes")
            return 0
        if arguments.dry_run:
            loaded = load()
            plan = asyncio.run(_plan(loaded, _read(loaded, arguments)))
            print(f"{plan.report()}\n\nNothing was made.")
            return 0
        if arguments.clean_up:
            return _clean_up(_read(load(), arguments).build, arguments.clean_up)
        use_server = start_prefect_server()
        loaded = load()
        found = _read(loaded, arguments)
        use_server()
        # What was changed for this once is not what the definition says, nor its image the definition's current one.
        name = None if is_changed else found.name
        build = loaded.flow(found.build, arguments.resume, definition=name, family=found.family)
        return _bake(build, arguments.artifact)
    except DefinitionError as error:
        print(error, file=sys.stderr)
        return BAD_DEFINITION
    except BakeryError as error:
        what = "dry run" if arguments.dry_run else "clean-up" if arguments.clean_up else "build"
        print(f"\nThe {what} failed: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED


def _bake(build: Coroutine[Any, Any, Any], destination: Path | None) -> int:
    from prefect.exceptions import CancelledRun, TerminationSignal

    try:
        artifact = run_until_interrupted(build, INTERRUPTED)
    except CancelledRun as cancelled:
        print(f"\nCancelled: {cancelled}", file=sys.stderr)
        return FAILED
    except TerminationSignal:
        print("\nTerminated.", file=sys.stderr)
        return TERMINATED
    if destination is not None:
        destination.write_text(artifact.model_dump_json(indent=2) + "\n", encoding="utf-8")
    print(artifact.report())
    return 0


def _clean_up(definition: BuildDefinition[Any], run: UUID) -> int:
    import logging

    from flows.oven import remove_kept

    logging.basicConfig(format="%(message)s")
    logger = logging.getLogger("image_bakery")
    logger.setLevel(logging.INFO)
    removal = asyncio.run(remove_kept(definition, run, logger))
    print(f"{len(removal.removed)} resources of flow run {run} removed; nothing of it is left.")
    return 0


async def _plan(builder: Builder, found: FleetDefinition) -> Plan:
    from flows.fleet.turn import with_source

    return await builder.plan(await with_source(found.build, found.family))


def _read(builder: Builder, arguments: argparse.Namespace) -> FleetDefinition:
    from flows.fleet.file import read_one

    return read_one(arguments.definition, model=builder.definition, changes=arguments.set, variant=arguments.variant)
