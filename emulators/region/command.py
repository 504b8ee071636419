"""The command line that every region has: `serve`, `up`, `down`, `show` and `where`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulators.region import background, show
from emulators.region.home import Home, RegionError


@dataclass(frozen=True)
class Command:
    """The command line of one cloud's region."""

    module: str
    """What `python -m` is given."""
    cloud: str
    add_options: Callable[[argparse.ArgumentParser], None]
    serve: Callable[[argparse.Namespace], Coroutine[Any, Any, None]]
    scope: str
    """The inventory's column that tells images of one name apart."""
    rooms: tuple[str, ...] = ("images",)
    """The kinds in the inventory whose disk files `where` finds."""

    def run(self, argv: list[str]) -> int:
        """Run one command.

        Returns:
            The exit code: 0, or 1 with a message on stderr that says what to do.
        """
        arguments = self._parser().parse_args(argv)
        try:
            match arguments.command:
                case "serve":
                    self._serve(arguments)
                case "up":
                    self._up(arguments, argv)
                case "down":
                    _down(arguments)
                case "show":
                    print(show.table(show.inventory(Home(arguments.state))))
                case "where":
                    print(self._where(arguments))
        except RegionError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            prog=f"python -m {self.module}", description=f"An {self.cloud} region in a box."
        )
        commands = parser.add_subparsers(dest="command", required=True)

        options = argparse.ArgumentParser(add_help=False)
        options.add_argument("--state", type=Path, required=True, help="where the region keeps everything")
        options.add_argument("--listen", default="127.0.0.1:0", help="API, HOST:PORT; port 0 is any, then kept")
        options.add_argument("--control", default="127.0.0.1:0", help="control endpoint, HOST:PORT")
        options.add_argument(
            "--image",
            type=Path,
            action="append",
            default=[],
            dest="images",
            metavar="DIR_OR_FILE",
            help="an image that comes with the region: a directory with disk.raw and image.json, or a raw disk; "
            "repeatable",
        )
        self.add_options(options)

        commands.add_parser("serve", parents=[options], help="serve in the foreground")
        commands.add_parser("up", parents=[options], help="serve in the background, unless it does already")
        down = commands.add_parser("down", help="stop the region and all that it runs")
        table = commands.add_parser("show", help="print what exists")
        where = commands.add_parser("where", help="print the path of a disk file")
        where.add_argument("thing", metavar=self.rooms[0].removesuffix("s"), help="name or id")
        where.add_argument("--id", action="store_true", help="print its id instead")
        for command in (down, table, where):
            command.add_argument("--state", type=Path, required=True, help="where the region keeps everything")
        return parser

    def _serve(self, arguments: argparse.Namespace) -> None:
        # The libraries' own chatter would hide the lines that matter.
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        logging.getLogger("emulators").setLevel(logging.INFO)
        asyncio.run(self.serve(arguments))

    def _up(self, arguments: argparse.Namespace, argv: list[str]) -> None:
        home = Home(arguments.state)
        ready, started = background.up(home, self.module, argv[1:])
        if not started:
            print(f"already serving from {home.directory}", file=sys.stderr)
        print(json.dumps(ready))

    def _where(self, arguments: argparse.Namespace) -> str:
        resources = show.inventory(Home(arguments.state))["resources"]
        wanted, kind = arguments.thing, self.rooms[0].removesuffix("s")
        found = [entry for room in self.rooms for entry in resources[room] if wanted in {entry["id"], entry["name"]}]
        if not found:
            raise RegionError(f"no {kind} {wanted!r} in this region: `show` lists them")
        if len(found) > 1:
            ids = ", ".join(f"{entry['id']} ({entry[self.scope] or 'silo'})" for entry in found)
            raise RegionError(f"{len(found)} {kind}s are named {wanted!r}, take an id: {ids}")
        return str(found[0]["id" if arguments.id else "path"])


def _down(arguments: argparse.Namespace) -> None:
    home = Home(arguments.state)
    pid = background.down(home)
    if pid is None:
        print(f"no region serves from {home.directory}", file=sys.stderr)
    else:
        print(f"stopped process {pid}", file=sys.stderr)
