"""Ansible on the host that builds: where it is, what it runs with, and that nothing of it stays."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tasks.chroot.host_command import run_program_on_host
from tasks.output import Lines
from tasks.provisioners.ansible_playbook import check_ended
from tasks.provisioners.common import Bench, on_this_host
from tasks.provisioners.local_environment import local_environment

_PLUGINS = Path(__file__).with_name("ansible_connection")
_LONGEST_SOCKET = 107
"""sun_path (unix(7)), without the NUL."""


def find_program(base: Path, command: str) -> str | None:
    """Where a program of this host is: a path, a name on PATH, or one that came with our own Python."""
    if os.sep in command:
        path = on_this_host(base, command).absolute()
        return str(path) if os.access(path, os.X_OK) and path.is_file() else None
    return shutil.which(command) or shutil.which(command, path=str(Path(sys.executable).parent))


def ansible_environment() -> dict[str, str]:
    """What every program of Ansible's starts with here: the environment without secrets, and plain output."""
    # What came with our own Python is found by what Ansible starts, too.
    path = [os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)]
    return {
        **local_environment(),
        "PATH": os.pathsep.join(path),
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
    }


def add_connection(environment: dict[str, str], socket: Path) -> None:
    """Have Ansible know the connection plugin `bakery` beside those that it knows, and where the build listens."""
    others = environment.get("ANSIBLE_CONNECTION_PLUGINS")
    environment["ANSIBLE_CONNECTION_PLUGINS"] = os.pathsep.join(filter(None, [others, str(_PLUGINS)]))
    environment["BAKERY_ANSIBLE_SOCKET"] = str(socket)


def private_directory(bench: Bench) -> AbstractContextManager[Path]:
    """A directory for us alone, with a path that is short enough for a socket in it."""
    room = len(os.fsencode(tempfile.gettempdir())) + len("/image-bakery-0123456789abcdef/socket") <= _LONGEST_SOCKET
    return bench.scratch(None if room else Path("/tmp"))  # noqa: S108


async def run_here(bench: Bench, called: str, argv: Sequence[str], environment: dict[str, str]) -> None:
    """Run a program of Ansible's in the definition's directory, its output in the log line by line.

    Cancelled, it is ended as a whole tree, since Ansible's workers leave its session and its process group; and so it
    is when this process ends.

    Args:
        bench: What the provisioner works with.
        called: How errors call the provisioner.
        argv: Program and arguments.
        environment: Its whole environment.

    Raises:
        CommunicatorError: it could not be started.
        ProvisionerFailed: it failed; with its own words.
    """
    lines = Lines(bench.logger.info)
    try:
        code = await run_program_on_host(argv, lines.feed, directory=bench.base.absolute(), environment=environment)
    finally:
        lines.end()
    check_ended(called, Path(argv[0]).name, code, lines.tail)
