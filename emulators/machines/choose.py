"""Which machines a region runs its instances on."""

from __future__ import annotations

from emulators.machines import Machines

KINDS = ("auto", "qemu", "cheap")


async def choose(kind: str, *, ssh_port: int) -> Machines:
    """The machines of that kind; `auto` is real virtual machines.

    Args:
        kind: one of `KINDS`.
        ssh_port: the port of every instance's address on which its SSH answers.

    Raises:
        ValueError: there is no such kind.
        OSError: this host cannot run them.
    """
    if kind == "cheap":
        from emulators.machines.cheap import CheapMachines

        return CheapMachines(ssh_port=ssh_port)
    if kind in {"auto", "qemu"}:
        from emulators.machines.qemu import qemu_machines

        return await qemu_machines(ssh_port=ssh_port)
    raise ValueError(f"no machines of kind {kind!r}: choose one of {', '.join(KINDS)}")
