"""The steps of a build in a chroot."""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from blocks.errors import ProvisionerFailed
from blocks.settings import settings
from tasks.chroot.copied_files import CopiedFiles
from tasks.chroot.device import wait_for_partition
from tasks.chroot.host_command import run_beside_jail, run_on_host
from tasks.chroot.jail import Jail
from tasks.chroot.mounts import Mount
from tasks.communicator import Output
from tasks.output import Lines
from tasks.run import Run
from tasks.step import step

_UNMOUNT = 60


def rendered(text: str, *, device: str = "", mount_path: str = "", command: str = "") -> str:
    """Shell text of an option, with `{{.Device}}`, `{{.MountPath}}` and `{{.Command}}` in place."""
    for variable, value in (("Device", device), ("MountPath", mount_path), ("Command", command)):
        text = text.replace(f"{{{{.{variable}}}}}", value)
    return text


@step("pre-mount commands", retries=0)
async def run_pre_mount_commands(run: Run, commands: Sequence[str], wrapper: str, device: str) -> None:
    """Run the user's shell text on the host, before the mount.

    Raises:
        ProvisionerFailed: one ended with another exit code than 0.
    """
    for command in commands:
        text = rendered(wrapper, command=rendered(command, device=device))
        await _host_shell(run, "pre-mount", text, partial(run_on_host, text))


@step("mount device", retries=0)
async def mount_device(run: Run, jail: Jail, device: str, partition: int, options: Sequence[str]) -> None:
    """Mount the root file system, in the jail and nowhere else."""
    node = await wait_for_partition(device, partition, settings().start_timeout)
    await jail.mount_device(node, options)
    run.logger.info("Mounted %s, which the host does not see", node)


@step("post-mount commands", retries=0)
async def run_post_mount_commands(run: Run, jail: Jail, commands: Sequence[str], wrapper: str, device: str) -> None:
    """Run the user's shell text with the host's files, where the image is mounted under `{{.MountPath}}`.

    Raises:
        ProvisionerFailed: one ended with another exit code than 0.
    """
    for command in commands:
        text = rendered(command, device=device, mount_path=str(jail.mount_path))
        text = rendered(wrapper, command=text)
        await _host_shell(run, "post-mount", text, partial(run_beside_jail, jail, text))


async def _host_shell(run: Run, which: str, text: str, start: Callable[[Output], Awaitable[int]]) -> None:
    lines = Lines(lambda line: run.logger.info("[%s] %s", which, line))
    try:
        code = await start(lines.feed)
    finally:
        lines.end()
    if code != 0:
        raise ProvisionerFailed(
            f"a {which} command ended with exit code {code}",
            resource=text.splitlines()[0][:200],
            why="".join(f"\n      {line}" for line in lines.tail) or "it said nothing",
            hint="Mend the command; {{.Device}} is the volume as it was linked.",
        )


@step("mount extra", retries=0)
async def mount_extra(_run: Run, jail: Jail, mounts: Sequence[Mount], disk: str) -> None:
    """Mount what programs inside expect."""
    aliases = [disk] if posixpath.dirname(disk) != "/dev" else []
    await jail.mount_extra(mounts, disk=disk, aliases=aliases)


@step("copy files", retries=0)
async def copy_files(_run: Run, copied: CopiedFiles, paths: Sequence[str]) -> None:
    """Let files of the host stand in for the image's own while it is provisioned."""
    await copied.copy(paths)


@step("early cleanup", retries=0)
async def early_cleanup(run: Run, jail: Jail, copied: CopiedFiles) -> None:
    """End what provisioners left running, put the image's own files back, and unmount."""
    await jail.end_strays(run.logger)
    await copied.put_back()
    await jail.unmount(_UNMOUNT)
