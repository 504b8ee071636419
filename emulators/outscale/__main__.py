"""`python -m emulators.outscale`: start, stop and look at an OUTSCALE region in a box."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from emulators.outscale.bodies import check_image_name
from emulators.outscale.region import Place, Times
from emulators.outscale.service import Options, serve
from emulators.region.command import Command
from emulators.region.home import Home
from emulators.region.sources import Source


def _add_options(options: argparse.ArgumentParser) -> None:
    place = Place()
    options.add_argument(
        "--public-image",
        type=Path,
        action="append",
        default=[],
        dest="public_images",
        metavar="DIR_OR_FILE",
        help="like --image, but owned by another account and public",
    )
    options.add_argument("--metadata", default="127.0.0.1:0", help="metadata service of the VM, HOST:PORT")
    options.add_argument("--region", default=place.region, help="name of the region")
    options.add_argument("--subregion", help="where the VM is (the region's a)")
    options.add_argument("--vm", default=place.vm_id, type=_vm_id, help="id of the VM that this machine is")
    options.add_argument("--account", type=_account_id, help="id of the VM's account (12 digits; random, then kept)")
    options.add_argument(
        "--other-account",
        type=_account_id,
        action="append",
        default=[],
        dest="other_accounts",
        metavar="ID",
        help="one more account, with credentials-ID.json; repeatable",
    )
    options.add_argument("--rate", type=float, metavar="N", help="requests a second that each account may make")
    options.add_argument(
        "--no-devices", action="store_false", dest="devices", help="linked volumes are no block devices; needs no root"
    )
    for name, what in (
        ("volume", "until a volume is available"),
        ("link", "until a volume is linked"),
        ("unlink", "until a volume is unlinked"),
        ("snapshot", "until a snapshot is completed"),
        ("image", "until an OMI is available"),
    ):
        options.add_argument(f"--{name}-seconds", type=float, default=0.0, metavar="S", help=what)


def _vm_id(text: str) -> str:
    if re.fullmatch(r"i-[0-9a-f]{8}", text) is None:
        raise argparse.ArgumentTypeError("i- and eight hex digits")
    return text


def _account_id(text: str) -> str:
    if re.fullmatch(r"\d{12}", text) is None:
        raise argparse.ArgumentTypeError("twelve digits")
    return text


async def _serve(arguments: argparse.Namespace) -> None:
    options = Options(
        home=Home(arguments.state),
        listen=arguments.listen,
        control=arguments.control,
        metadata=arguments.metadata,
        sources=[Source.read(path, check_image_name) for path in arguments.images],
        public_sources=[Source.read(path, check_image_name) for path in arguments.public_images],
        place=Place(arguments.region, arguments.subregion or f"{arguments.region}a", arguments.vm),
        account=arguments.account,
        other_accounts=arguments.other_accounts,
        times=Times(
            volume=arguments.volume_seconds,
            link=arguments.link_seconds,
            unlink=arguments.unlink_seconds,
            snapshot=arguments.snapshot_seconds,
            image=arguments.image_seconds,
        ),
        rate=arguments.rate,
        devices=arguments.devices,
    )
    await serve(options)


def main(argv: list[str]) -> int:
    """Run one command; the exit code is 0, or 1 with a message on stderr."""
    command = Command(
        "emulators.outscale",
        "OUTSCALE",
        _add_options,
        _serve,
        scope="account",
        rooms=("images", "volumes", "snapshots"),
    )
    return command.run(argv)


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
