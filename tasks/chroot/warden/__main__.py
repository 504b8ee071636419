"""`jail LINE BUILDER PATH`, `host LINE BUILDER`, or `enter PATH IPC UTS COMMAND…`."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

from tasks.chroot.warden import kernel
from tasks.chroot.warden.inside import ENVIRONMENT, Home, execute, go_inside
from tasks.chroot.warden.keeper import Keeper


def main() -> None:
    """Do what the first argument says."""
    what, *rest = sys.argv[1:]
    if what == "enter":
        root, ipc, uts, *command = rest
        go_inside(Home(root, ipc, uts))
        execute(command, ENVIRONMENT)
    kernel.signal_at_parents_end(signal.SIGTERM, int(rest[1]))
    line = socket.socket(fileno=int(rest[0]))
    line.set_inheritable(False)
    try:
        keeper = Keeper(line, rest[2] if what == "jail" else None)
    except OSError as error:
        line.send(json.dumps({"id": 0, "why": str(error), "errno": error.errno}).encode())
        os._exit(1)
    keeper.serve()


main()
