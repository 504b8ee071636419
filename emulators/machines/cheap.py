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
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from emulators.guests import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE
from emulators.machines import MachineSpec, PowerOff
from emulators.machines.behaviour import Behaviour
from emulators.machines.cidata import write_cidata_files
from emulators.machines.disks import check_fits, copy_disk, delete_disk, make_blank, run, share_disk, tools_path
from emulators.machines.gate import Gate
from emulators.machines.power import Ended, PoweredMachine
from emulators.machines.process import dying_with_us
from emulators.machines.ring import RingConsole

_LAUNCHER = Path(__file__).with_name("cheap.sh")
_Mount = tuple[Path | str, str, str, str]
"""What is mounted, where below the root, of what kind, with which options."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


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

    async def share_disk(self, source: Path, target: Path, size: int) -> None:
        """Have a disk whose tree has the same files."""
        tree = _tree_of(source)
        if tree is None:
            await share_disk(source, target, size)
            return
        check_fits(source, size)
        await _copy_tree(tree, _beside(target), "--link")
        make_blank(target, size)

    async def delete_disk(self, path: Path) -> None:
        """Delete a disk and its tree; both may be gone already."""
        delete_disk(path)
        if _is_there(_beside(path)):
            await run(["rm", "-rf", "--one-file-system", "--", _beside(path)])


class CheapMachine(PoweredMachine):
    """One cheap machine. It heeds all of `Behaviour`."""

    def __init__(self, ssh_port: int, root: Path) -> None:
        super().__init__()
        self._ssh_port = ssh_port
        self._root = root

    async def _start(self, spec: MachineSpec, serial: RingConsole, ended: Ended) -> _Running:
        if not spec.disks:
            raise OSError("a machine without a disk boots nothing")
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
        self._behaviour = Behaviour.read(spec.behaviour)
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

    async def type(self, data: bytes) -> None:
        """Nobody reads a cheap machine's console."""

    def _kill(self) -> None:
        # `unshare` passes this on to the first process of the PID namespace, and with it go all others. One that it
        # has only just made does not yet know that it is to die with it, and is still in its process group.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _spawn(self) -> None:
        work = self._spec.workdir.absolute()
        _write_settings(self._spec, self._behaviour, work, self._ssh_port)
        _write_mounts(self._tree, work)
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
        gate = self._gate()
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
            if gate is not None:
                gate.cancel()
                await asyncio.gather(gate, return_exceptions=True)
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
        seconds = self._behaviour.dies_after_seconds
        return asyncio.get_running_loop().call_later(seconds, self._kill) if seconds else None

    def _gate(self) -> asyncio.Task[None] | None:
        if not self._behaviour.needs_gate or not self._spec.addresses:
            return None
        return asyncio.create_task(Gate(self._spec.addresses, self._ssh_port, self._behaviour).serve())


def _write_settings(spec: MachineSpec, behaviour: Behaviour, work: Path, ssh_port: int) -> None:
    """What the launcher mounts into the tree for one boot."""
    write_cidata_files(spec.cloud_init, work / "cidata")
    (work / "boot_id").write_text(f"{uuid.uuid4()}\n")
    (work / "hostname").write_text(f"{spec.cloud_init.hostname}\n")
    (work / "inittab").write_text("".join(f"{line}\n" for line in _inittab(spec, behaviour, ssh_port)))


def _write_mounts(root: Path, work: Path) -> None:
    """What is mounted where in the tree, as tables of fstab(5): first all but devices, then the devices' files."""
    mounts: list[_Mount] = [
        (root, "", "none", "bind"),
        ("proc", "proc", "proc", "defaults"),
        (root / "proc/sys", "proc/sys", "none", "bind,ro"),
        (work / "boot_id", "proc/sys/kernel/random/boot_id", "none", "bind"),
        ("dev", "dev", "tmpfs", "mode=755,size=256k"),
        ("devpts", "dev/pts", "devpts", "newinstance,mode=620,ptmxmode=666,X-mount.mkdir"),
        ("shm", "dev/shm", "tmpfs", "mode=1777,X-mount.mkdir"),
        ("run", "run", "tmpfs", "mode=755"),
        (work / "cidata", "run/cidata", "none", "bind,X-mount.mkdir"),
        (work / "inittab", "etc/inittab", "none", "bind"),
    ]
    if Path("/proc/sysrq-trigger").exists():
        mounts.append(("/dev/null", "proc/sysrq-trigger", "none", "bind"))
    devices: list[_Mount] = [(f"/dev/{name}", f"dev/{name}", "none", "bind") for name in _DEVICES]
    for name, table in (("mounts", mounts), ("devices", devices)):
        lines = (f"{_word(source)} {_word(root / at)} {kind} {options}\n" for source, at, kind, options in table)
        (work / name).write_text("".join(lines))


def _word(path: Path | str) -> str:
    """A path as a word of fstab(5)."""
    return "".join(f"\\{ord(each):03o}" if each in " \t\n\\#" else each for each in str(path))


def _inittab(spec: MachineSpec, behaviour: Behaviour, ssh_port: int) -> list[str]:
    """The lines of a busybox init's `/etc/inittab`."""
    lines = ["::sysinit:/bin/echo cheap: starting"]
    if behaviour.never_boots:
        return [*lines, "::sysinit:/bin/sleep 1000000000"]
    if behaviour.new_host_keys:
        lines.append("::sysinit:/bin/sh -c 'rm -f /etc/dropbear/*_host_key'")
    lines.append("::sysinit:/etc/init.d/cloud /run/cidata")
    if behaviour.refuses_auth:
        lines.append("::sysinit:/bin/sh -c ': > /root/.ssh/authorized_keys; : > /home/baker/.ssh/authorized_keys'")
    if behaviour.boot_seconds:
        lines.append(f"::sysinit:/bin/sh -c '{_wait_until(_uptime() + behaviour.boot_seconds)}'")
    if not behaviour.ssh_down:
        lines += _ssh_servers(spec.addresses, behaviour, ssh_port)
    lines += ["::once:/etc/init.d/user-data", "::shutdown:/bin/echo cheap: shutting down"]
    if behaviour.shutdown_seconds:
        lines.append(f"::shutdown:/bin/sleep {behaviour.shutdown_seconds}")
    return lines


def _ssh_servers(addresses: Sequence[str], behaviour: Behaviour, ssh_port: int) -> Iterator[str]:
    port = ssh_port + 1 if behaviour.needs_gate else ssh_port
    for some in _few(addresses):
        yield "::respawn:/usr/sbin/dropbear -F -E -R " + " ".join(f"-p {address}:{port}" for address in some)
    if behaviour.ssh_impostor_from is not None:
        key = "/run/impostor_host_key"
        yield f"::sysinit:/bin/sh -c 'rm -f {key}; dropbearkey -t ed25519 -f {key} >/dev/null 2>&1'"
        for some in _few(addresses):
            listens = " ".join(f"-p {address}:{ssh_port + 2}" for address in some)
            yield f"::respawn:/usr/sbin/dropbear -F -E -r {key} {listens}"


def _few(addresses: Sequence[str]) -> Iterator[Sequence[str]]:
    """Addresses by sixes: busybox cuts a command of its inittab at 255 characters."""
    return (addresses[at : at + 6] for at in range(0, len(addresses), 6))


def _uptime() -> float:
    """The clock that `/proc/uptime` shows, in the guest's namespaces, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _wait_until(uptime: float) -> str:
    """A shell command that waits for a moment. How long the boot has taken so far does not matter then."""
    # Without "#" and ":", which mean something in an inittab.
    return f'IFS=". " read s h r</proc/uptime;l=$(({int(uptime * 100)}-$s$h));[ $l -le 0 ]||usleep ${{l}}0000'


def _is_there(tree: Path) -> bool:
    return tree.exists()


def _beside(disk: Path) -> Path:
    return disk.with_name(f"{disk.name}.root")


def _tree_of(disk: Path) -> Path | None:
    """The tree of a disk, or of a guest image as it is built."""
    for tree in (_beside(disk), disk.with_name("root")):
        if tree.is_dir() and (tree / "sbin").is_symlink():
            return tree
    return None


async def _copy_tree(source: Path, target: Path, *options: str) -> None:
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        await run(["cp", "-a", "--reflink=auto", *options, "--", source, temporary])
        if _is_there(target):
            await run(["rm", "-rf", "--one-file-system", "--", target])
        temporary.rename(target)
    except BaseException:
        await asyncio.shield(run(["rm", "-rf", "--", temporary]))
        raise
