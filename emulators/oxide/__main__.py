"""`python -m emulators.oxide`: start, stop and look at an Oxide region in a box."""

from __future__ import annotations

import argparse
import os
import sys
from ipaddress import IPv4Network

from emulators.machines import choose
from emulators.oxide import images
from emulators.oxide.records import Role
from emulators.oxide.region import Times
from emulators.oxide.service import Options, serve
from emulators.region.command import Command
from emulators.region.home import Home


def _add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--machines", choices=choose.KINDS, default="auto", help="auto is qemu")
    options.add_argument("--ssh-port", type=int, help="port of all guests (22 where it can be had, else 2222)")
    options.add_argument("--project", default="bakery", help="project that is there from the start")
    options.add_argument(
        "--user",
        type=_user,
        action="append",
        default=[],
        dest="users",
        metavar="SILO/NAME[:ROLE]",
        help="another user (role admin, collaborator or viewer) of a silo that is made if need be; repeatable",
    )
    options.add_argument("--addresses", type=_network, help="IPv4 network of external addresses, in 127.0.0.0/8")
    for name, default, what in (
        ("create", 0.0, "until an instance is made"),
        ("start", 0.0, "from starting to running"),
        ("stop", 0.0, "from stopping to stopped"),
        ("reboot", 0.0, "from rebooting to running"),
        ("disk", 0.0, "until a disk of its own is made"),
        ("snapshot", 0.0, "until a snapshot is made"),
        ("image", 0.0, "until an image is made"),
        ("restart", 10.0, "from a failure to the automatic restart"),
    ):
        options.add_argument(f"--{name}-seconds", type=float, default=default, metavar="S", help=what)


def _network(text: str) -> IPv4Network:
    network = IPv4Network(text)
    if not network.subnet_of(IPv4Network("127.0.0.0/8")) or network.num_addresses < 4:
        raise argparse.ArgumentTypeError("a network of at least 4 addresses in 127.0.0.0/8")
    return network


def _user(text: str) -> tuple[str, str, Role]:
    path, _, role = text.partition(":")
    silo, slash, name = path.partition("/")
    if not slash:
        raise argparse.ArgumentTypeError("SILO/NAME or SILO/NAME:ROLE")
    try:
        return silo, name, Role(role or "collaborator")
    except ValueError:
        raise argparse.ArgumentTypeError(f"the role is one of {', '.join(Role)}") from None


async def _serve(arguments: argparse.Namespace) -> None:
    options = Options(
        home=Home(arguments.state),
        listen=arguments.listen,
        control=arguments.control,
        machines=arguments.machines,
        sources=[images.source(path) for path in arguments.images],
        ssh_port=arguments.ssh_port,
        project=arguments.project,
        network=arguments.addresses,
        users=arguments.users,
        times=Times(
            create=arguments.create_seconds,
            start=arguments.start_seconds,
            stop=arguments.stop_seconds,
            reboot=arguments.reboot_seconds,
            disk=arguments.disk_seconds,
            snapshot=arguments.snapshot_seconds,
            image=arguments.image_seconds,
            restart=arguments.restart_seconds,
        ),
    )
    await serve(options)


def main(argv: list[str]) -> int:
    """Run one command; the exit code is 0, or 1 with a message on stderr."""
    return Command("emulators.oxide", "Oxide", _add_options, _serve, scope="project").run(argv)


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
