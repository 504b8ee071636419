"""`python -m emulators.outscale`: start, stop and look at an OUTSCALE region in a box."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from emulators.outscale.quotas import QUOTAS, check_names
from emulators.outscale.region import Place
from emulators.outscale.service import Options, serve
from emulators.outscale.times import Times
from emulators.outscale.values import check_image_name
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
    options.add_argument(
        "--alias",
        type=_alias,
        action="append",
        default=[],
        dest="aliases",
        metavar="ID=NAME",
        help="an account's alias; repeatable",
    )
    options.add_argument(
        "--other-vm",
        type=_other_vm,
        action="append",
        default=[],
        dest="other_vms",
        metavar="ID[@SUBREGION]",
        help="one more VM of the account, which this machine plays, too; its metadata are below /ID; repeatable",
    )
    options.add_argument(
        "--quota",
        type=_quota,
        action="append",
        default=[],
        dest="quotas",
        metavar="NAME=N",
        help=f"what each account may have at most ({', '.join(QUOTAS)}); repeatable",
    )
    options.add_argument("--rate", type=float, metavar="N", help="requests a second that each account may make")
    options.add_argument("--call-rate", type=float, metavar="N", help="requests a second for any one call")
    options.add_argument(
        "--crowd", type=int, default=0, metavar="N", help="public OMIs and volumes that no build has made"
    )
    options.add_argument(
        "--no-devices", action="store_false", dest="devices", help="linked volumes are no block devices; needs no root"
    )
    for name, told in Times.model_fields.items():
        options.add_argument(f"--{name}-seconds", type=float, default=0.0, metavar="S", help=told.description)


def _vm_id(text: str) -> str:
    if re.fullmatch(r"i-[0-9a-f]{8}", text) is None:
        raise argparse.ArgumentTypeError("i- and eight hex digits")
    return text


def _account_id(text: str) -> str:
    if re.fullmatch(r"\d{12}", text) is None:
        raise argparse.ArgumentTypeError("twelve digits")
    return text


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("NAME=VALUE")
    return name, value


def _alias(text: str) -> tuple[str, str]:
    account_id, alias = _pair(text)
    return _account_id(account_id), alias


def _other_vm(text: str) -> tuple[str, str | None]:
    vm_id, _, subregion = text.partition("@")
    return _vm_id(vm_id), subregion or None


def _quota(text: str) -> tuple[str, int]:
    name, value = _pair(text)
    check_names([name])
    return name, int(value)


async def _serve(arguments: argparse.Namespace) -> None:
    subregion = arguments.subregion or f"{arguments.region}a"
    other_vms = {vm_id: place or subregion for vm_id, place in arguments.other_vms}
    options = Options(
        home=Home(arguments.state),
        listen=arguments.listen,
        control=arguments.control,
        metadata=arguments.metadata,
        sources=[Source.read(path, check_image_name) for path in arguments.images],
        public_sources=[Source.read(path, check_image_name) for path in arguments.public_images],
        place=Place(arguments.region, subregion, arguments.vm, other_vms),
        account=arguments.account,
        other_accounts=arguments.other_accounts,
        aliases=dict(arguments.aliases),
        times=Times(**{name: getattr(arguments, f"{name}_seconds") for name in Times.model_fields}),
        limits=dict(arguments.quotas),
        rate=arguments.rate,
        call_rate=arguments.call_rate,
        crowd=arguments.crowd,
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
