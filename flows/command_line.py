"""Baking from the command line, with no worker and, if need be, no server."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks.errors import BakeryError, DefinitionError
from flows.private_server import start_prefect_server

if TYPE_CHECKING:
    from flows.definition import BuildDefinition

FAILED, BAD_DEFINITION, INTERRUPTED, TERMINATED = 1, 2, 130, 143

_EPILOG = """exit codes:
  0    the image is made (with --validate: the definition holds no mistake)
  1    the build failed or was cancelled; nothing temporary is left, or the log says what is
  2    the definition or the command line holds mistakes; nothing was created
  130  interrupted (Ctrl-C), 143 terminated: the build is cleaned up after

A build runs on the Prefect server that PREFECT_API_URL (or the Prefect profile) names; without one it starts one of
its own, which ends with it. IMAGE_BAKERY_* variables set deadlines and poll times: see the README."""


def main(
    program: str,
    builder: str,
    load: Callable[[], tuple[type[BuildDefinition[Any]], Callable[[Any], Coroutine[Any, Any, Any]]]],
) -> int:
    """Read the command line, bake, and return the exit code.

    Args:
        program: How the command is called.
        builder: The builder's name.
        load: Imports the builder's definition and its flow. Called once a server is on its way, since Prefect takes
            its time to import.
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
    parser.add_argument("--artifact", metavar="FILE", type=Path, help="also write the artifact to a file, as JSON")
    parser.add_argument("--validate", action="store_true", help="only look for mistakes that can be seen from here")
    arguments = parser.parse_args()
    try:
        if arguments.validate:
            _read(load()[0], arguments)
            print(f"{arguments.definition}: no mistakes")
            return 0
        use_server = start_prefect_server()
        model, flow = load()
        definition = _read(model, arguments)
        use_server()
        return _bake(flow(definition), arguments.artifact)
    except DefinitionError as error:
        print(error, file=sys.stderr)
        return BAD_DEFINITION
    except BakeryError as error:
        print(f"\nThe build failed: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED


def _bake(build: Coroutine[Any, Any, Any], destination: Path | None) -> int:
    from prefect.exceptions import CancelledRun, TerminationSignal

    try:
        artifact = asyncio.run(build)
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


def _read(model: type[BuildDefinition[Any]], arguments: argparse.Namespace) -> BuildDefinition[Any]:
    from flows.definition import read_yaml

    return read_yaml(model, arguments.definition, arguments.set)
