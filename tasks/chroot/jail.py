"""The jail around a chroot: what is done in it stays in it, and it ends with the process that builds.

A jail has a mount, a PID, an IPC and a UTS namespace of its own (namespaces(7)). The image's file system is mounted
there and nowhere else: the host does not see it, and no process of the host can hold its device. The network is the
host's.

It keeps accidents off the host: daemons, mounts, links, a script that sets the clock or loads a module. **It is no
sandbox for hostile code**: root in it shares the host's kernel, may mount, and may make device nodes.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blocks.errors import CommunicatorError, WaitExpired
from tasks.chroot.line import Line, OperationFailed
from tasks.chroot.mounts import DEFAULT_MOUNTS, Mount
from tasks.communicator import Output
from tasks.run import Logger

_PAUSE = 0.02
_LONGEST_PAUSE = 0.5


@dataclass(frozen=True)
class Stray:
    """A process in the jail that no step waits for."""

    process: int
    """Its number on this host."""
    command_line: str

    def __str__(self) -> str:
        return f"{self.command_line} (process {self.process})"


class Jail:
    """One jail. Use it as a context: its end ends every process in it and takes every mount away.

    Start it in the thread that lives as long as the build, as the event loop's does. Then it also ends, within
    milliseconds, with the build's process, whatever ends that: the kernel signals the keeper (PR_SET_PDEATHSIG) and the
    keeper's line breaks; the keeper kills the jail's first process, and with it the kernel ends everything in the PID
    namespace. Kill the keeper, and the kernel kills the first process itself.

    Args:
        mount_path: Where the root file system is mounted. Made if it is missing, and then removed at the end. Builds
            side by side may share it: each sees its own mount only, and the last one removes it.
        logger: Takes warnings.
    """

    def __init__(self, mount_path: Path, logger: Logger | None = None) -> None:
        self.mount_path = mount_path
        self._logger: Logger = logger or logging.getLogger(__name__)
        self._line = Line(f"jail at {mount_path}")
        self._made: list[str] = []

    def __str__(self) -> str:
        return self._line.name

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except Exception as trouble:
            if error is None:
                raise
            self._logger.warning("%s: its end: %s", self, trouble)

    @property
    def line(self) -> Line:
        """The line to its keeper."""
        return self._line

    @property
    def first_process(self) -> int:
        """The number, on this host, of the jail's first process: its namespaces are under `/proc/NUMBER/ns`."""
        return self._line.first_process

    async def start(self) -> None:
        """Start it.

        Raises:
            CommunicatorError: the kernel refused, most often for want of root's rights.
        """
        await self._line.start("jail", str(self.mount_path))

    async def close(self) -> None:
        """End it, whatever runs in it. Repeatable. What is not yet written to the device gets written."""
        await self._line.close()

    async def mount_device(self, device: str, options: Sequence[str] = (), filesystem: str | None = None) -> None:
        """Mount a block device as the jail's root file system.

        Args:
            device: The partition, or the disk if it has none.
            options: As mount(8) takes them behind `-o`.
            filesystem: Its type; by default mount(8) finds out.

        Raises:
            CommunicatorError: mount(8) refused; with its words.
        """
        await self._do(
            f"mount {device}",
            "Is it the right partition (mount_partition), and is its file system in /proc/filesystems?",
            "mount_root",
            device=device,
            filesystem=filesystem,
            options=list(options),
        )

    async def mount_extra(
        self, mounts: Iterable[Mount] = DEFAULT_MOUNTS, disk: str | None = None, links: Mapping[str, str] | None = None
    ) -> None:
        """Mount what programs inside expect. Links in the image are followed inside it.

        Five kinds are given in a form that does not reach the host:

        - `proc`: of the jail's own processes; `/proc/sys`, `sysrq-trigger`, `bus`, `fs` and `irq` are read-only;
        - `sysfs`: read-only;
        - a bind of the host's `/dev`: a new `/dev` with the standard nodes, a devpts and a shm of its own, the build's
          own disk and its partitions, and none of the host's other devices;
        - `devpts`: a new instance, unless `/dev` has brought one;
        - `binfmt_misc`: read-only; where the kernel has none, that is a warning.

        Everything else is as mount(8) does it, a `bind` without what is mounted below its source.

        Args:
            mounts: What, in order.
            disk: The build's own disk, for `/dev`: all partitions must be there by now.
            links: Further paths under `/dev`, each with the node of the disk or partition that it leads to; see
                `tasks.chroot.device.links_of`.

        Raises:
            CommunicatorError: the kernel or mount(8) refused.
        """
        for kind, source, inner in mounts:
            given = await self._do(
                f"mount {kind} on {inner}",
                "Is it right in chroot_mounts: type, source, path inside?",
                "mount_extra",
                kind=kind,
                source=source,
                inner=inner,
                disk=disk,
                links=dict(links or {}),
            )
            self._made += given["made"]
            if given["warning"]:
                self._logger.warning("%s: %s", self, given["warning"])

    async def run_beside(self, argv: Sequence[str], output: Output, environment: dict[str, str], directory: str) -> int:
        """Run a program of the host in the jail's mount namespace, where the image is under `mount_path`.

        Its other namespaces but PID are the host's. It ends with the jail. See `tasks.chroot.host_command`.

        Raises:
            CommunicatorError: it could not be started.
            ConnectionLost: the jail is gone.
        """
        try:
            return await self._line.run(argv, output, inside=False, environment=environment, directory=directory)
        except OperationFailed as error:
            raise CommunicatorError(f"could not start {argv[0]}", resource=str(self), why=str(error)) from None

    async def strays(self) -> list[Stray]:
        """What runs in the jail: between commands, what they left; during one, its own processes too."""
        return await self._strays(0)

    async def end_strays(self, logger: Logger | None = None, grace: float = 2.0) -> list[Stray]:
        """End what still runs, with a warning that names each, and return what there was.

        Args:
            logger: Takes the warning; by default the jail's own.
            grace: Seconds from SIGTERM to SIGKILL.

        Raises:
            WaitExpired: something cannot even be killed: it waits for a device.
        """
        clock = asyncio.get_running_loop().time
        found = await self._strays(signal.SIGTERM)
        for stray in found:
            (logger or self._logger).warning("A provisioner left a process running; it is ended now: %s", stray)
        left, end = found, clock() + grace
        while left and clock() < end:
            await asyncio.sleep(_PAUSE)
            left = await self.strays()
        end = clock() + 10
        while left := await self._strays(signal.SIGKILL):
            if clock() > end:
                raise WaitExpired(
                    "processes in it do not end, though they were killed",
                    resource=str(self),
                    why=", ".join(map(str, left)),
                    hint="They wait for a device or a network file system: look at the kernel's log (dmesg).",
                )
            await asyncio.sleep(_PAUSE)
        return found

    async def unmount(self, timeout: float = 30) -> None:
        """Unmount everything, the last first, and try again while something is in use.

        Never lazily: when this returns, all is written.

        Args:
            timeout: Seconds.

        Raises:
            WaitExpired: something is still in use. It says what, and by whom as far as is known.
        """
        clock = asyncio.get_running_loop().time
        end, pause = clock() + timeout, _PAUSE
        while left := await self._do("unmount", "", "unmount", made=self._made):
            if clock() + pause > end:
                users = ", ".join(map(str, await self.strays()))
                raise WaitExpired(
                    f"still mounted after {timeout:g} s",
                    resource=str(self),
                    why="; ".join(f"{path}: {why}" for path, why in left)
                    + (f"; still running: {users}" if users else ""),
                    hint="Does a provisioner leave a daemon, a swap file or a loop device in use?",
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        self._made = []

    async def _strays(self, number: int) -> list[Stray]:
        return [Stray(process, line) for process, line in await self._line.ask("strays", signal=int(number))]

    async def _do(self, what: str, hint: str, operation: str, **arguments: object) -> Any:
        try:
            return await self._line.call(operation, **arguments)
        except OperationFailed as error:
            raise CommunicatorError(f"could not {what}", resource=str(self), why=str(error), hint=hint) from None
