"""One command and its supervisor, which holds on to everything that the command starts."""

from __future__ import annotations

import os
import signal

from tasks.chroot.warden import kernel
from tasks.chroot.warden.inside import ENVIRONMENT, Home, become, execute, go_inside


def supervise(
    home: Home | None, result: int, output: int, argv: list[str], environment: dict[str, str] | None, directory: str
) -> None:
    """Run a command as a child, and end as it ended. Never returns.

    A daemon that the command leaves is this process's to the command's end, so that whoever kills this process's tree
    kills all of it. Afterwards it is the child of the PID namespace's first process.

    Args:
        home: The jail to run it in; None runs it where this process is.
        result: Where a failure to start is told; closed by the start.
        output: Where its output goes.
        argv: Program and arguments.
        environment: Its whole environment; None means the one of commands inside.
        directory: Its working directory.
    """
    os.setsid()
    kernel.adopt_orphans()
    nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    if home is not None:
        go_inside(home)
    os.chdir(directory)
    command = os.fork()
    if command == 0:
        os.setsid()
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        (execute if home is not None else become)(argv, ENVIRONMENT if environment is None else environment)
    for descriptor in (result, output, nothing):
        os.close(descriptor)
    while True:
        process, status = os.wait()
        if process == command:
            if os.WIFSIGNALED(status):
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(os.WEXITSTATUS(status))
