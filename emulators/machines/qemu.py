"""Real virtual machines: QEMU with KVM where that works, else with an emulated processor (TCG)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from emulators.machines import Machines, MachineSpec, PowerOff
from emulators.machines.behaviour import Behaviour
from emulators.machines.cidata import write_cidata
from emulators.machines.disks import copy_disk, delete_disk, share_disk, tools_path
from emulators.machines.kvm import kvm_runs_guests
from emulators.machines.power import Ended, PoweredMachine
from emulators.machines.process import dying_with_us
from emulators.machines.qmp import Qmp
from emulators.machines.ring import RingConsole

_START_DEADLINE = 30.0
"""Seconds until QEMU has to have greeted: it does so in a tenth of one, unless the machine is far overloaded."""


async def qemu_machines(acceleration: str = "auto", *, ssh_port: int = 22) -> Machines:
    """Virtual machines whose guests' port 22 answers on `ssh_port` of their instance's address.

    `acceleration` is `kvm`, `tcg`, or `auto`: KVM if a guest was seen to run with it.

    Raises:
        ValueError: an unknown acceleration.
    """
    if acceleration == "auto":
        acceleration = "kvm" if await kvm_runs_guests() else "tcg"
    if acceleration not in ("kvm", "tcg"):
        raise ValueError(f"acceleration is auto, kvm or tcg, not {acceleration!r}")
    return QemuMachines(acceleration, ssh_port)


class QemuMachines:
    """Virtual machines of one kind of acceleration."""

    def __init__(self, acceleration: str, ssh_port: int) -> None:
        self._acceleration = acceleration
        self._ssh_port = ssh_port
        self._machines: weakref.WeakValueDictionary[str, QemuMachine] = weakref.WeakValueDictionary()

    @property
    def name(self) -> str:
        """`qemu-kvm` or `qemu-tcg`."""
        return f"qemu-{self._acceleration}"

    def machine(self, instance_id: str) -> QemuMachine:
        """The machine of an instance; the same one for as long as somebody holds it."""
        machine = self._machines.get(instance_id)
        if machine is None:
            machine = self._machines[instance_id] = QemuMachine(self._acceleration, self._ssh_port)
        return machine

    async def copy_disk(self, source: Path, target: Path, size: int) -> None:
        """Copy a disk. A machine that runs on it stands still meanwhile, so that the copy is of one moment."""
        async with contextlib.AsyncExitStack() as paused:
            for machine in list(self._machines.values()):
                if machine.uses(source):
                    await paused.enter_async_context(machine.paused())
            await copy_disk(source, target, size)

    async def share_disk(self, source: Path, target: Path, size: int) -> None:
        """Have a disk of the same file, where their sizes are the same."""
        await share_disk(source, target, size)

    async def delete_disk(self, path: Path) -> None:
        """Delete a disk; it may be gone already."""
        delete_disk(path)


class QemuMachine(PoweredMachine):
    """One virtual machine: a QEMU process from power-on to power-off."""

    def __init__(self, acceleration: str, ssh_port: int) -> None:
        super().__init__()
        self._acceleration = acceleration
        self._ssh_port = ssh_port

    def uses(self, disk: Path) -> bool:
        """Whether the machine is on and has this disk."""
        return self._running is not None and self._spec is not None and disk in self._spec.disks

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Stop the processors, with all writes that the guest has begun finished."""
        async with self._lock:
            running = self._running
            if running is None:
                yield
                return
            assert isinstance(running, _Running)
            async with running.changing:
                with contextlib.suppress(ConnectionError, RuntimeError):
                    await running.qmp.command("stop")
                try:
                    yield
                finally:
                    with contextlib.suppress(ConnectionError, RuntimeError):
                        await running.go_on()

    async def _start(self, spec: MachineSpec, serial: RingConsole, ended: Ended) -> _Running:
        spec.workdir.mkdir(parents=True, exist_ok=True)
        cidata = spec.workdir / "cidata.img"
        await write_cidata(spec.cloud_init, cidata)
        argv = _argv(spec, cidata, self._acceleration, self._ssh_port)
        return await _Running.start(argv, spec.workdir / "qemu.log", serial, ended, Behaviour.read(spec.behaviour))


class _Running:
    """One power-on: a QEMU process, and another one after each reset by the guest (see `_argv`)."""

    def __init__(self, argv: list[str], log: Path, serial: RingConsole, ended: Ended, behaviour: Behaviour) -> None:
        self._argv = argv
        self._behaviour = behaviour
        self._log = log
        self._serial = serial
        self._on_end = ended
        self._last_words = ""
        self._killed = False
        self._process: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]
        self._watching: asyncio.Task[None]
        self.qmp: Qmp
        self.changing = asyncio.Lock()
        """Held while one process takes the place of another."""
        self.ended = False

    @classmethod
    async def start(
        cls, argv: list[str], log: Path, serial: RingConsole, ended: Ended, behaviour: Behaviour
    ) -> _Running:
        running = cls(argv, log, serial, ended, behaviour)
        await running._spawn("wb")
        running._watching = asyncio.create_task(running._watch())
        return running

    async def kill(self) -> None:
        """End the process at once, and wait for that."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.shield(self._watching)

    async def go_on(self) -> None:
        """Let the processors run, unless the guest is never to come up."""
        if not self._behaviour.never_boots:
            await self.qmp.command("cont")

    async def type(self, data: bytes) -> None:
        """Send input to the serial port."""
        stdin = self._process.stdin
        if stdin is not None and not stdin.is_closing():
            with contextlib.suppress(ConnectionError):
                stdin.write(data)
                await stdin.drain()

    async def _spawn(self, log_mode: Literal["wb", "ab"]) -> None:
        ours, theirs = socket.socketpair()
        with theirs, self._log.open(log_mode) as errors:
            # fmt: off
            monitor = ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control"]
            # fmt: on
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *dying_with_us([*self._argv, *monitor]),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=errors,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, "PATH": tools_path()},
                    # A Ctrl-C at the emulator's terminal is the emulator's to answer.
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        self._last_words = ""
        self.qmp = await Qmp.open(ours, self._event)
        self._reading = asyncio.create_task(self._read_serial())
        try:
            if self._killed:
                # Between two processes there was none to kill.
                raise ConnectionError("killed")
            async with asyncio.timeout(_START_DEADLINE):
                await self.qmp.greet()
                await self.go_on()
        except (ConnectionError, TimeoutError, RuntimeError) as error:
            await self._reap()
            raise OSError(f"QEMU did not start: {_tail(self._log) or error or 'no answer'}") from error
        except BaseException:
            await self._reap()
            raise

    async def _reap(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading
        await self.qmp.close()
        self.ended = True

    async def _watch(self) -> None:
        seconds = self._behaviour.dies_after_seconds
        dying = asyncio.get_running_loop().call_later(seconds, self._crash) if seconds else None
        while not await self._over():
            pass
        if dying is not None:
            dying.cancel()
        self.ended = True
        if self._killed:
            how = PowerOff.BY_REGION
        elif self._last_words == "guest-shutdown" and self._process.returncode == 0:
            how = PowerOff.BY_GUEST
        else:
            how = PowerOff.CRASHED
        self._on_end(self, how)

    def _crash(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _over(self) -> bool:
        """Wait for the process's end; say whether no other one has taken its place."""
        # Events first: the process may have been reaped before its last words were read.
        await self.qmp.ended()
        async with self.changing:
            await self._reading
            await self._process.wait()
            await self.qmp.close()
            if self._killed or self._last_words != "guest-reset" or self._process.returncode != 0:
                return True
            try:
                await self._spawn("ab")
            except OSError:
                # What QEMU said is in its log; the machine has crashed, unless it was killed meanwhile.
                return True
            return False

    async def _read_serial(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        while data := await stdout.read(65536):
            self._serial.write(data)

    def _event(self, name: str, data: dict[str, Any]) -> None:
        if name == "SHUTDOWN":
            self._last_words = str(data.get("reason"))


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-1000:]


def _argv(spec: MachineSpec, cidata: Path, acceleration: str, ssh_port: int) -> list[str]:
    """QEMU's command line: started with its processors halted, serial port on standard output."""
    # More virtual processors than real ones only make a guest slower.
    cpus = max(1, min(spec.cpus, os.cpu_count() or 1))
    # fmt: off
    argv = [
        "qemu-system-x86_64", "-M", f"q35,accel={acceleration}",
        "-cpu", "host" if acceleration == "kvm" else "max",
        "-smp", str(cpus), "-m", f"{spec.memory // 1024**2}M",
        "-nodefaults", "-no-user-config", "-display", "none", "-S",
        "-name", spec.cloud_init.hostname.replace(",", ""),
        "-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
        "-device", "virtio-rng-pci", "-device", "pvpanic-pci",
        "-netdev", _user_network(spec.addresses, ssh_port), "-device", "virtio-net-pci,netdev=net,romfile=",
    ]
    # fmt: on
    if acceleration == "tcg":
        # A reset leaves translated code behind, and each write to memory that once held code is a slow one: loading the
        # kernel takes a minute and more. A new process has none.
        argv += ["-action", "reboot=shutdown"]
    for index, options in enumerate(_disk_options(spec, cidata)):
        boot = ",bootindex=0" if index == 0 else ""
        argv += ["-blockdev", json.dumps(options), "-device", f"virtio-blk-pci,drive=disk{index}{boot}"]
    return argv


def _disk_options(spec: MachineSpec, cidata: Path) -> Iterator[dict[str, object]]:
    """Block devices: the instance's disks, then cidata.

    The host's page cache outlives QEMU, so what the guest has written is kept when the process is killed, and flushing
    it to the host's disk as well (`no-flush`) would only guard against a power cut of the host.
    """
    for index, disk in enumerate((*spec.disks, cidata)):
        last = index == len(spec.disks)
        yield {
            "driver": "raw",
            "node-name": f"disk{index}",
            "read-only": last,
            "discard": "unmap",
            "detect-zeroes": "off" if last else "unmap",
            "cache": {"direct": False, "no-flush": True},
            "file": {"driver": "file", "filename": str(disk.absolute()), "discard": "unmap"},
        }


def _user_network(addresses: Sequence[str], ssh_port: int) -> str:
    return "user,id=net,ipv6=off" + "".join(f",hostfwd=tcp:{address}:{ssh_port}-:22" for address in addresses)
