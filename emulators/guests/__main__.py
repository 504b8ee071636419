"""Build guest images: `python -m emulators.guests build tiny debian --output var/guests`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from emulators.guests import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE, packages
from emulators.guests.build import GUESTS, build_guest
from emulators.guests.run import BuildError


def main() -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m emulators.guests", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build guest images unless they are up to date")
    build.add_argument("guests", nargs="+", choices=GUESTS, metavar="guest", help=" or ".join(GUESTS))
    default = Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY)
    build.add_argument("--output", type=Path, default=default, help="directory of all guests (%(default)s)")
    commands.add_parser("packages", help="print the Debian packages that building and running guests need")
    options = parser.parse_args()
    if options.command == "packages":
        print(*packages.ALL)
        return 0
    # What a build has started and mounted goes as at any other error.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        for guest in options.guests:
            build_guest(guest, options.output)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; no half image is left", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
