"""`python -m flows.build_all [DIRECTORY]`: build a directory's definitions in order."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from blocks.errors import BakeryError, DefinitionError
from flows.command_line import BAD_DEFINITION, FAILED, INTERRUPTED, TERMINATED
from flows.private_server import start_prefect_server

_EPILOG = """exit codes:
  0    all are built, or need not be
  1    builds failed, or were not begun because one before them failed
  2    the definitions or the command line hold mistakes; nothing was created
  130  interrupted (Ctrl-C), 143 terminated: the builds are cleaned up after

Current images are known on the Prefect server that PREFECT_API_URL (or the Prefect profile) names. Without one all are
built: the command then starts a server of its own, which ends with it."""


def main() -> int:
    """Read the command line, build, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.build_all",
        description="Build all definitions of a directory, parents before what is made from them, in this process.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "directory", metavar="DIRECTORY", nargs="?", type=Path, default=Path("deployments"), help="default: deployments"
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="only this definition. Can be repeated")
    parser.add_argument("--tag", action="append", metavar="TAG", help="only definitions with this tag. Can be repeated")
    parser.add_argument("--changed", action="store_true", help="only what has changed: definition, source, parents")
    parser.add_argument("--limit", type=int, default=4, metavar="N", help="how many are built at once (4)")
    arguments = parser.parse_args()
    if arguments.limit < 1:
        parser.error("--limit must be at least 1")
    if not arguments.directory.is_dir():
        parser.error(f"{arguments.directory} is no directory")
    try:
        use_server = start_prefect_server()
        return _build_all(arguments, use_server)
    except DefinitionError as error:
        print(error, file=sys.stderr)
        return BAD_DEFINITION
    except BakeryError as error:
        print(f"\n{error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED


def _build_all(arguments: argparse.Namespace, use_server: Callable[[], None]) -> int:
    from prefect.exceptions import TerminationSignal

    from flows.build_all.flow import build_all
    from flows.fleet.wave import report

    use_server()
    try:
        outcomes = asyncio.run(
            build_all(
                only=arguments.only,
                tags=arguments.tag,
                limit=arguments.limit,
                only_changed=arguments.changed,
                directory=str(arguments.directory),
            )
        )
    except TerminationSignal:
        print("\nTerminated.", file=sys.stderr)
        return TERMINATED
    print(f"\n{report(outcomes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
