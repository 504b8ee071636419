"""What a region asks of the machines that its instances run on.

A region knows `Machines` (how to make one, how to copy disks) and `Machine` (one instance: power, serial console,
how it ended). `emulators.machines.qemu` boots real virtual machines; `emulators.machines.cheap` runs an SSH server in a
private root, for load and fault tests that need no guest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class CloudInit:
    """What the guest is told through its cidata disk (the same fields as on an Oxide rack)."""

    instance_id: str
    hostname: str
    public_keys: tuple[str, ...] = ()
    user_data: bytes = b""


@dataclass(frozen=True)
class MachineSpec:
    """One instance as its machine needs to know it. Made anew at every power-on, as the rack does."""

    id: str
    memory: int
    """Bytes."""
    cpus: int
    disks: tuple[Path, ...]
    """Raw disk files, the boot disk first."""
    cloud_init: CloudInit
    address: str | None
    """Loopback address on which the guest's SSH answers, on the region's SSH port; None: no external address."""
    workdir: Path
    """A private directory of this instance: sockets, cidata disk, logs."""
    behaviour: dict[str, object] = field(default_factory=dict)
    """Faults and times asked for by the control endpoint: `Behaviour` in `emulators.machines.behaviour`."""
    more_addresses: tuple[str, ...] = ()
    """Further loopback addresses on which the guest's SSH answers."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address on which the guest's SSH answers."""
        return (*([self.address] if self.address is not None else []), *self.more_addresses)


class PowerOff(StrEnum):
    """How a machine came to be off."""

    BY_GUEST = "by-guest"
    BY_REGION = "by-region"
    CRASHED = "crashed"


class SerialConsole(Protocol):
    """What the guest has written to its first serial port since power-on."""

    @property
    def total(self) -> int:
        """How many bytes were ever written."""
        ...

    def read(self, start: int, limit: int) -> bytes:
        """At most `limit` bytes from absolute offset `start` (the first and the last MiB are kept)."""
        ...

    def kept_from(self, start: int) -> int:
        """The first offset from `start` on whose byte is still there, or will come."""
        ...


class Machine(Protocol):
    """One machine. Every method can be called again, and in any state."""

    @property
    def serial(self) -> SerialConsole:
        """The first serial port."""
        ...

    async def power_on(self, spec: MachineSpec) -> None:
        """Return once the machine's processor runs (not once the guest answers).

        Raises:
            OSError: the machine could not be started.
        """
        ...

    async def power_off(self) -> None:
        """Cut the power: what the guest has not written to its disk is lost. Return when it is off."""
        ...

    async def reset(self) -> None:
        """Press the reset button: as `power_off`, then on again with the same spec."""
        ...

    async def type(self, data: bytes) -> None:
        """Send input to the serial port. A machine that is off or takes none ignores it."""
        ...

    async def wait_off(self) -> PowerOff:
        """Wait until the machine is off, and say how it came to be. A guest's own reboot is no power-off."""
        ...


class Machines(Protocol):
    """A kind of machines."""

    @property
    def name(self) -> str:
        """What reports call it: `qemu-kvm`, `qemu-tcg` or `cheap`."""
        ...

    def machine(self, instance_id: str) -> Machine:
        """The machine of an instance, off until it is powered on."""
        ...

    async def copy_disk(self, source: Path, target: Path, size: int) -> None:
        """Copy a disk sparsely (a reflink where the file system has them), then grow it to `size` bytes.

        The source may be in use: the copy is what a power cut at that moment would have left on it.

        Raises:
            OSError: the copy failed; no target is left.
            ValueError: the source is bigger than `size`.
        """
        ...

    async def share_disk(self, source: Path, target: Path, size: int) -> None:
        """As `copy_disk`, where neither is ever written to, so that both may be the same files.

        Raises:
            OSError: the copy failed; no target is left.
            ValueError: the source is bigger than `size`.
        """
        ...

    async def delete_disk(self, path: Path) -> None:
        """Delete a disk; it may be gone already."""
        ...
