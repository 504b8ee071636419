"""The steps of a build in a chroot."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from blocks.errors import ProvisionerFailed
from blocks.settings import settings
from tasks.chroot.copied_files import CopiedFiles
from tasks.chroot.device import kernel_name, links_of, partition, show_partitions, wait_for_partition
from tasks.chroot.file_systems import grow_before_mount, grow_mounted, grow_partition, trim_file_system
from tasks.chroot.host_command import run_beside_jail, run_on_host
from tasks.chroot.jail import Jail
from tasks.chroot.mounts import Mount
from tasks.communicator import Output
from tasks.output import Lines
from tasks.run import Run
from tasks.step import step

_UNMOUNT = 60
_PARTITION = re.compile(r"\{\{\.Device\}\}(\d+)")


def rendered(text: str, *, device: str = "", mount_path: str = "", command: str = "") -> str:
    """Shell text of an option, with `{{.Device}}`, `{{.MountPath}}` and `{{.Command}}` in place.

    `{{.Device}}1` is the device's first partition by the name that the kernel gives it, whatever the device's own name
    looks like: `/dev/xvdf1`, `/dev/nvme1n1p1`. Links by id get their partitions later than the kernel does.
    """
    text = _PARTITION.sub(lambda match: partition(kernel_name(device), int(match[1])), text)
    for variable, value in (("Device", device), ("MountPath", mount_path), ("Command", command)):
        text = text.replace(f"{{{{.{variable}}}}}", value)
    return text


@step("pre-mount commands", retries=0)
async def run_pre_mount_commands(run: Run, commands: Sequence[str], wrapper: str, device: str) -> None:
    """Run the user's shell text on the host, before the mount. Partitions that one makes are there for the next.

    Raises:
        ProvisionerFailed: one ended with another exit code than 0.
    """
    for command in commands:
        text = rendered(wrapper, command=rendered(command, device=device))
        await _host_shell(run, "pre-mount", text, partial(run_on_host, text))
        await show_partitions(device, settings().start_timeout)


@step("grow root", retries=0)
async def grow_root(run: Run, device: str, number: int) -> None:
    """Let the root partition fill the volume, if it is the last on it, and its file system the partition."""
    if await grow_partition(device, number, settings().start_timeout):
        run.logger.info("Partition %d fills the volume now", number)
    if done := await grow_before_mount(await wait_for_partition(device, number, settings().start_timeout)):
        run.logger.info("%s", done)


@step("mount device", retries=0)
async def mount_device(run: Run, jail: Jail, device: str, partition: int, options: Sequence[str]) -> None:
    """Mount the root file system, in the jail and nowhere else."""
    node = await wait_for_partition(device, partition, settings().start_timeout)
    await jail.mount_device(node, options)
    run.logger.info("Mounted %s, which the host does not see", node)


@step("grow mounted root", retries=0)
async def grow_mounted_root(run: Run, jail: Jail) -> None:
    """The same for file systems that grow while they are mounted."""
    if done := await grow_mounted(jail):
        run.logger.info("%s", done)


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
    await jail.mount_extra(mounts, disk=disk, links=await links_of(disk))


@step("copy files", retries=0)
async def copy_files(_run: Run, copied: CopiedFiles, paths: Sequence[str]) -> None:
    """Let files of the host stand in for the image's own while it is provisioned."""
    await copied.copy(paths)


@step("early cleanup", retries=0)
async def early_cleanup(run: Run, jail: Jail, copied: CopiedFiles, *, trim: bool) -> None:
    """End what provisioners left running, put the image's own files back, trim, and unmount."""
    await jail.end_strays(run.logger)
    await copied.put_back()
    if trim:
        run.logger.info("%s", await trim_file_system(jail))
    await jail.unmount(_UNMOUNT)
