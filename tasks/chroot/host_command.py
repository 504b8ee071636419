"""Host shell text, where an option is shell by definition: `pre_mount_commands`, `post_mount_commands`.

Before the mount a command runs on the host, with its namespaces. After the mount it has the host's files too, but runs
in the jail's mount namespace, because only there is something mounted under `{{.MountPath}}`: what it mounts there is
part of the jail, and what it mounts elsewhere the host does not see. Its PID namespace is the jail's too, so that it
ends with the jail; all others are the host's, since LVM and udev, for one, meet in the IPC namespace.

Either way it is an argv of `sh -c` with the caller's text, rendered; it has the builder's environment, as Packer's has;
and it is ended, with everything it started, when it is cancelled or the builder dies. What it leaves in the background
lives on: on the host until it ends, in the jail as a stray.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from blocks.errors import CommunicatorError
from tasks.chroot.jail import Jail
from tasks.chroot.line import Line, OperationFailed
from tasks.communicator import Output


async def run_on_host(
    command: str, output: Output, *, directory: Path | None = None, environment: Mapping[str, str] | None = None
) -> int:
    """Run a command by the host's shell, hand over its output as it comes, and return its exit code; -1 for a signal.

    Args:
        command: Shell text, templates rendered, `command_wrapper` applied.
        output: Takes the output, standard error included.
        directory: Working directory; by default this process's.
        environment: The whole environment; by default this process's.

    Raises:
        CommunicatorError: the shell could not be started.
    """
    return await run_program_on_host(["/bin/sh", "-c", command], output, directory=directory, environment=environment)


async def run_program_on_host(
    argv: Sequence[str],
    output: Output,
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """The same with a program and its arguments. It has a session of its own, and nothing to read.

    Cancelled, it is killed with all that it started, also what left its session.

    Raises:
        CommunicatorError: the program could not be started.
    """
    line = Line("this host")
    await line.start("host")
    try:
        return await line.run(
            argv,
            output,
            inside=False,
            directory=str(directory or Path.cwd()),
            environment=dict(os.environ if environment is None else environment),
        )
    except OperationFailed as error:
        raise CommunicatorError(f"could not start {argv[0]}", resource="this host", why=str(error)) from None
    finally:
        await line.close()


async def run_beside_jail(
    jail: Jail,
    command: str,
    output: Output,
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """The same in the jail's mount namespace, where the image is mounted.

    Raises:
        CommunicatorError: the shell could not be started.
        ConnectionLost: the jail is gone.
    """
    return await jail.run_beside(
        ["/bin/sh", "-c", command],
        output,
        dict(os.environ if environment is None else environment),
        str(directory or Path.cwd()),
    )
