"""Real virtual machines: QEMU with KVM where that works, else with an emulated processor (TCG)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from emulators.machines import Machines, MachineSpec, PowerOff
from emulators.machines.cidata import write_cidata
from emulators.machines.disks import copy_disk, delete_disk, tools_path
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
            assert running is None or isinstance(running, _Running)
            with contextlib.suppress(ConnectionError, RuntimeError):
                if running is not None:
                    await running.qmp.command("stop")
            try:
                yield
            finally:
                with contextlib.suppress(ConnectionError, RuntimeError):
                    if running is not None:
                        await running.qmp.command("cont")

    async def _start(self, spec: MachineSpec, serial: RingConsole, ended: Ended) -> _Running:
        spec.workdir.mkdir(parents=True, exist_ok=True)
        cidata = spec.workdir / "cidata.img"
        await write_cidata(spec.cloud_init, cidata)
        argv = _argv(spec, cidata, self._acceleration, self._ssh_port)
        return await _Running.start(argv, spec.workdir / "qemu.log", serial, ended)


class _Running:
    """One QEMU process."""

    def __init__(self, process: asyncio.subprocess.Process, serial: RingConsole) -> None:
        self._process = process
        self._serial = serial
        self._by_guest = False
        self._killed = False
        self.qmp: Qmp
        self.ended = False
        self._watching: asyncio.Task[None]

    @classmethod
    async def start(cls, argv: list[str], log: Path, serial: RingConsole, ended: Ended) -> _Running:
        ours, theirs = socket.socketpair()
        with theirs, log.open("wb") as errors:
            # fmt: off
            monitor = ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control"]
            # fmt: on
            try:
                process = await asyncio.create_subprocess_exec(
                    *dying_with_us([*argv, *monitor]),
                    stdin=asyncio.subprocess.DEVNULL,
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
        running = cls(process, serial)
        running.qmp = await Qmp.open(ours, running._event)
        reading = asyncio.create_task(running._read_serial())
        try:
            async with asyncio.timeout(_START_DEADLINE):
                await running.qmp.greet()
                await running.qmp.command("cont")
        except (ConnectionError, TimeoutError, RuntimeError) as error:
            await running._reap(reading)
            raise OSError(f"QEMU did not start: {_tail(log) or error or 'no answer'}") from error
        except BaseException:
            await running._reap(reading)
            raise
        running._watching = asyncio.create_task(running._watch(reading, ended))
        return running

    async def kill(self) -> None:
        """End the process at once, and wait for that."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.shield(self._watching)

    async def _reap(self, reading: asyncio.Task[None]) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await reading
        await self.qmp.close()
        self.ended = True

    async def _watch(self, reading: asyncio.Task[None], ended: Ended) -> None:
        # Events first: the process may have been reaped before its last words were read.
        await self.qmp.ended()
        await reading
        await self._process.wait()
        await self.qmp.close()
        self.ended = True
        if self._killed:
            how = PowerOff.BY_REGION
        elif self._by_guest and self._process.returncode == 0:
            how = PowerOff.BY_GUEST
        else:
            how = PowerOff.CRASHED
        ended(self, how)

    async def _read_serial(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        while data := await stdout.read(65536):
            self._serial.write(data)

    def _event(self, name: str, data: dict[str, Any]) -> None:
        if name == "SHUTDOWN":
            self._by_guest = data.get("reason") == "guest-shutdown"


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
        "-netdev", _user_network(spec.address, ssh_port), "-device", "virtio-net-pci,netdev=net,romfile=",
    ]
    # fmt: on
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


def _user_network(address: str | None, ssh_port: int) -> str:
    forward = f",hostfwd=tcp:{address}:{ssh_port}-:22" if address is not None else ""
    return f"user,id=net,ipv6=off{forward}"
