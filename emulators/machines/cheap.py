"""Machines without a kernel of their own: an SSH server in a private root, light enough for hundreds.

A cheap machine is the tree of the tiny guest in its own mount, PID, UTS and IPC namespaces, on the host's kernel and
network. What is different from a real one:

- The tree of a disk lies beside it in `<disk>.root`; the content of the disk itself is not looked at.
- A power cut loses nothing that was written, synced or not: the files are the host's.
- A copy of a disk in use is not of one moment.
- It is no sandbox: root in it is root on the host's kernel, with fewer capabilities.

It needs root's rights.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from pathlib import Path

from emulators.guests import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE
from emulators.machines import MachineSpec, PowerOff
from emulators.machines.cidata import write_cidata_files
from emulators.machines.disks import check_fits, copy_disk, delete_disk, make_blank, run, tools_path
from emulators.machines.late import serve_late
from emulators.machines.power import Ended, PoweredMachine
from emulators.machines.process import dying_with_us
from emulators.machines.ring import RingConsole

_LAUNCHER = Path(__file__).with_name("cheap.sh")


class CheapMachines:
    """Machines that are an SSH server each, on `ssh_port` of their instance's address.

    `root` is the tree for disks that have none; by default the tiny guest's, where `emulators.guests` builds it.
    """

    def __init__(self, *, ssh_port: int = 22, root: Path | None = None) -> None:
        self._ssh_port = ssh_port
        self._root = root or Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY) / "tiny" / "root"

    @property
    def name(self) -> str:
        """What reports call it."""
        return "cheap"

    def machine(self, instance_id: str) -> CheapMachine:  # noqa: ARG002 - every kind is asked by instance
        """A machine for an instance."""
        return CheapMachine(self._ssh_port, self._root)

    async def copy_disk(self, source: Path, target: Path, size: int) -> None:
        """Copy a disk's tree; its content only if there is no tree, because then nothing else holds its data.

        Raises:
            OSError: the copy failed.
            ValueError: the source is bigger than `size`.
        """
        tree = _tree_of(source)
        if tree is None:
            await copy_disk(source, target, size)
            return
        check_fits(source, size)
        await _copy_tree(tree, _beside(target))
        make_blank(target, size)

    async def delete_disk(self, path: Path) -> None:
        """Delete a disk and its tree; both may be gone already."""
        delete_disk(path)
        await run(["rm", "-rf", "--one-file-system", "--", _beside(path)])


class CheapMachine(PoweredMachine):
    """One cheap machine.

    It heeds these keys of `MachineSpec.behaviour`: `boot_seconds` and `ssh_banner_delay` (seconds before SSH listens,
    and before it greets), `never_boots`, `refuses_auth`, and `dies_after_seconds` (it crashes so long after power-on).
    """

    def __init__(self, ssh_port: int, root: Path) -> None:
        super().__init__()
        self._ssh_port = ssh_port
        self._root = root

    async def _start(self, spec: MachineSpec, serial: RingConsole, ended: Ended) -> _Running:
        tree = _beside(spec.disks[0])
        if not tree.is_dir():
            if not self._root.is_dir():
                raise OSError(f"{self._root} is missing: run `python -m emulators.guests build tiny`")
            await _copy_tree(self._root, tree)
        running = _Running(spec, tree.absolute(), self._ssh_port, serial)
        await running.start(ended)
        return running


class _Running:
    """A cheap machine that is on: one process after the other, as often as the guest restarts itself."""

    def __init__(self, spec: MachineSpec, tree: Path, ssh_port: int, serial: RingConsole) -> None:
        self._spec = spec
        self._tree = tree
        self._ssh_port = ssh_port
        self._serial = serial
        self._killed = False
        self.ended = False
        self._process: asyncio.subprocess.Process
        self._watching: asyncio.Task[None]

    async def start(self, ended: Ended) -> None:
        """Start the first process and watch it."""
        await self._spawn()
        self._watching = asyncio.create_task(self._watch(ended))

    async def kill(self) -> None:
        """End every process of the machine, and wait for that."""
        self._killed = True
        self._kill()
        await asyncio.shield(self._watching)

    def _kill(self) -> None:
        # `unshare` passes this on to the first process of the PID namespace, and with it go all others. One that it
        # has only just made does not yet know that it is to die with it, and is still in its process group.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _spawn(self) -> None:
        work = self._spec.workdir.absolute()
        _write_settings(self._spec, work, self._ssh_port)
        # fmt: off
        self._process = await asyncio.create_subprocess_exec(
            *dying_with_us([
                "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL",
                # What the host unmounts must go here, too, or its devices stay busy.
                "--propagation", "slave",
                "--", "/bin/sh", _LAUNCHER, self._tree, work,
            ]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PATH": tools_path()},
        )
        # fmt: on

    async def _watch(self, ended: Ended) -> None:
        dying = self._dies_after()
        late = self._late()
        try:
            how = await self._run()
            while how is None and not self._killed:
                await self._spawn()
                how = await self._run()
        except OSError as error:
            self._serial.write(f"the machine did not restart: {error}\n".encode())
            how = PowerOff.CRASHED
        finally:
            if dying is not None:
                dying.cancel()
            if late is not None:
                late.cancel()
                await asyncio.gather(late, return_exceptions=True)
        self.ended = True
        ended(self, PowerOff.BY_REGION if self._killed or how is None else how)

    async def _run(self) -> PowerOff | None:
        """Follow one process to its end; None: the guest restarts.

        The kernel ends a PID namespace's first process with SIGINT for power-off and halt, with SIGHUP for restart
        (reboot(2), "Behavior inside PID namespaces"), and `unshare` ends itself by the same signal.
        """
        stdout = self._process.stdout
        assert stdout is not None
        if self._killed:
            self._kill()
        while data := await stdout.read(65536):
            self._serial.write(data)
        match await self._process.wait():
            case status if status == -signal.SIGINT:
                return PowerOff.BY_GUEST
            case status if status == -signal.SIGHUP:
                return None
            case _:
                return PowerOff.CRASHED

    def _dies_after(self) -> asyncio.TimerHandle | None:
        seconds = _number(self._spec, "dies_after_seconds")
        return asyncio.get_running_loop().call_later(seconds, self._kill) if seconds else None

    def _late(self) -> asyncio.Task[None] | None:
        delay, host, port = _number(self._spec, "ssh_banner_delay"), self._spec.address, self._ssh_port
        # The SSH server itself then listens on the next port of the same address, which is this instance's alone.
        return asyncio.create_task(serve_late(host, port, port + 1, delay)) if delay and host else None


def _write_settings(spec: MachineSpec, work: Path, ssh_port: int) -> None:
    """What the launcher mounts into the tree for one boot."""
    write_cidata_files(spec.cloud_init, work / "cidata")
    (work / "boot_id").write_text(f"{uuid.uuid4()}\n")
    (work / "hostname").write_text(f"{spec.cloud_init.hostname}\n")
    (work / "inittab").write_text("".join(f"{line}\n" for line in _inittab(spec, ssh_port)))


def _inittab(spec: MachineSpec, ssh_port: int) -> list[str]:
    """The lines of a busybox init's `/etc/inittab`."""
    lines = ["::sysinit:/bin/echo cheap: starting"]
    if spec.behaviour.get("never_boots"):
        return [*lines, "::sysinit:/bin/sleep 1000000000"]
    if delay := _number(spec, "boot_seconds"):
        lines.append(f"::sysinit:/bin/sleep {delay}")
    lines.append("::sysinit:/etc/init.d/cloud /run/cidata")
    if spec.behaviour.get("refuses_auth"):
        lines.append("::sysinit:/bin/sh -c ': > /root/.ssh/authorized_keys; : > /home/baker/.ssh/authorized_keys'")
    if spec.address is not None:
        port = ssh_port + 1 if _number(spec, "ssh_banner_delay") else ssh_port
        lines.append(f"::respawn:/usr/sbin/dropbear -F -E -p {spec.address}:{port}")
    return [*lines, "::once:/etc/init.d/user-data", "::shutdown:/bin/echo cheap: shutting down"]


def _number(spec: MachineSpec, key: str) -> float:
    value = spec.behaviour.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise OSError(f"{key} is a number of seconds, not {value!r}")
    return value


def _beside(disk: Path) -> Path:
    return disk.with_name(f"{disk.name}.root")


def _tree_of(disk: Path) -> Path | None:
    """The tree of a disk, or of a guest image as it is built."""
    for tree in (_beside(disk), disk.with_name("root")):
        if tree.is_dir() and (tree / "sbin").is_symlink():
            return tree
    return None


async def _copy_tree(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        await run(["cp", "-a", "--reflink=auto", "--", source, temporary])
        await run(["rm", "-rf", "--one-file-system", "--", target])
        temporary.rename(target)
    except BaseException:
        await asyncio.shield(run(["rm", "-rf", "--", temporary]))
        raise
