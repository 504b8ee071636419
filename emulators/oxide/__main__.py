"""`python -m emulators.oxide`: start, stop and look at an Oxide region in a box."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from emulators.machines import choose
from emulators.oxide import images
from emulators.oxide.region import Times
from emulators.oxide.service import Options, serve
from emulators.region import background, show
from emulators.region.home import Home, RegionError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emulators.oxide", description="An Oxide region in a box.")
    commands = parser.add_subparsers(dest="command", required=True)

    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--state", type=Path, required=True, help="where the region keeps everything")
    options.add_argument("--listen", default="127.0.0.1:0", help="API, HOST:PORT; port 0 is any, then kept")
    options.add_argument("--control", default="127.0.0.1:0", help="control endpoint, HOST:PORT")
    options.add_argument("--machines", choices=choose.KINDS, default="auto", help="auto is qemu")
    options.add_argument(
        "--image",
        type=Path,
        action="append",
        default=[],
        dest="images",
        metavar="DIR_OR_FILE",
        help="an image of the silo: a directory with disk.raw and image.json, or a raw disk; repeatable",
    )
    options.add_argument("--ssh-port", type=int, help="port of all guests (22 where it can be had, else 2222)")
    options.add_argument("--project", default="bakery", help="project that is there from the start")
    options.add_argument("--addresses", type=_network, help="IPv4 network of external addresses, in 127.0.0.0/8")
    for name, default, what in (
        ("create", 0.0, "until an instance is made"),
        ("start", 0.0, "from starting to running"),
        ("stop", 0.0, "from stopping to stopped"),
        ("restart", 10.0, "from a failure to the automatic restart"),
    ):
        options.add_argument(f"--{name}-seconds", type=float, default=default, metavar="S", help=what)

    commands.add_parser("serve", parents=[options], help="serve in the foreground")
    commands.add_parser("up", parents=[options], help="serve in the background, unless it does already")
    down = commands.add_parser("down", help="stop the region and all of its machines")
    table = commands.add_parser("show", help="print what exists")
    where = commands.add_parser("where", help="print the path of an image's disk file")
    where.add_argument("image", help="name or id")
    for command in (down, table, where):
        command.add_argument("--state", type=Path, required=True, help="where the region keeps everything")
    return parser


def _network(text: str) -> IPv4Network:
    network = IPv4Network(text)
    if not network.subnet_of(IPv4Network("127.0.0.0/8")) or network.num_addresses < 4:
        raise argparse.ArgumentTypeError("a network of at least 4 addresses in 127.0.0.0/8")
    return network


def _serve(arguments: argparse.Namespace) -> None:
    # The libraries' own chatter would hide the lines that matter.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("emulators").setLevel(logging.INFO)
    options = Options(
        home=Home(arguments.state),
        listen=arguments.listen,
        control=arguments.control,
        machines=arguments.machines,
        sources=[images.Source.read(path) for path in arguments.images],
        ssh_port=arguments.ssh_port,
        project=arguments.project,
        network=arguments.addresses,
        times=Times(
            create=arguments.create_seconds,
            start=arguments.start_seconds,
            stop=arguments.stop_seconds,
            restart=arguments.restart_seconds,
        ),
    )
    asyncio.run(serve(options))


def _up(arguments: argparse.Namespace, argv: list[str]) -> None:
    home = Home(arguments.state)
    ready, started = background.up(home, "emulators.oxide", argv[1:])
    if not started:
        print(f"already serving from {home.directory}", file=sys.stderr)
    print(json.dumps(ready))


def _down(arguments: argparse.Namespace) -> None:
    home = Home(arguments.state)
    pid = background.down(home)
    if pid is None:
        print(f"no region serves from {home.directory}", file=sys.stderr)
    else:
        print(f"stopped process {pid}", file=sys.stderr)


def _inventory(arguments: argparse.Namespace) -> dict[str, Any]:
    return show.inventory(Home(arguments.state))


def _where(arguments: argparse.Namespace) -> None:
    found = [
        image
        for image in _inventory(arguments)["resources"]["images"]
        if arguments.image in {image["id"], image["name"]}
    ]
    if not found:
        raise RegionError(f"no image {arguments.image!r} in this region: `show` lists them")
    if len(found) > 1:
        ids = ", ".join(f"{image['id']} ({image['project'] or 'silo'})" for image in found)
        raise RegionError(f"{len(found)} images are named {arguments.image!r}, take an id: {ids}")
    print(found[0]["path"])


def main(argv: list[str]) -> int:
    """Run one command.

    Returns:
        The exit code: 0, or 1 with a message on stderr that says what to do.
    """
    arguments = _parser().parse_args(argv)
    try:
        match arguments.command:
            case "serve":
                _serve(arguments)
            case "up":
                _up(arguments, argv)
            case "down":
                _down(arguments)
            case "show":
                print(show.table(_inventory(arguments)))
            case "where":
                _where(arguments)
    except RegionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
