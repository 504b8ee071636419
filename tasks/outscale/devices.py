"""Device names on this VM, shared by all builds of the host: who may have a volume here, and under which name."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from blocks.errors import Conflict, ReplyLost, ServiceFault, WaitExpired
from blocks.outscale.models import Vm, Volume
from blocks.settings import settings
from tasks.chroot.device import names_of
from tasks.outscale.run import OutscaleRun

_LETTERS = "fghijklmnopqrstuvwxyzbcde"
MOST_DEVICES = len(_LETTERS)
"""How many volumes a VM can have beside its root, by the names that are tried."""
_NAME_TAKEN = frozenset({"9003", "9004"})
"""device-conflict, device-in-use (the gateway's error table)."""
_PAUSE = 0.05


@asynccontextmanager
async def place_on_vm(run: OutscaleRun, most: int) -> AsyncIterator[None]:
    """Hold one of this VM's places for a build's volume; wait while builds have `most` of them.

    A place dies with its process. Waiting can be cancelled.
    """
    waiting = f"Waiting: {most} builds have a volume on this VM (max_parallel_devices)"
    async with _locked([f"place-{number}.lock" for number in range(1, most + 1)], partial(run.logger.info, waiting)):
        yield


async def choose_and_link(run: OutscaleRun, volume: Volume, vm_id: str, asked: str | None) -> str:
    """Choose a device name and have the volume linked under it.

    The region says which names the VM uses, the kernel which are there; both are asked under a lock of this host, so
    that builds side by side do not choose the same one. It is held for these two requests only, not while the link
    takes its time. A name that the region refuses all the same is passed over.

    Returns:
        The device name.

    Raises:
        WaitExpired: none is free.
    """
    candidates = [asked] if asked else [f"/dev/xvd{letter}" for letter in _LETTERS]
    refused = ""
    async with _locked(["devices.lock"], lambda: None):
        vm = await run.client.vm(vm_id)
        for name in candidates:
            if is_taken(vm, name):
                refused = refused or "taken on the VM"
                continue
            try:
                await run.client.link_volume(volume.volume_id, vm_id, name)
            except Conflict as error:
                if error.code not in _NAME_TAKEN and (linked := await _link_of(run, volume)):
                    return linked
                refused = str(error)
            except (ReplyLost, ServiceFault):
                if linked := await _link_of(run, volume):
                    return linked
                raise
            else:
                return name
    raise WaitExpired(
        "no device name is free",
        resource=f"VM {vm_id}",
        why=f"tried {', '.join(candidates)}; {refused}",
        hint="Wait until other builds on this VM are through, or unlink volumes that it no longer needs.",
    )


async def _link_of(run: OutscaleRun, volume: Volume) -> str | None:
    """The name of a link that was made although no reply said so."""
    links = (await run.client.volume(volume.volume_id)).linked_volumes
    return links[0].device_name if links else None


def is_taken(vm: Vm, name: str) -> bool:
    """Whether a VM uses a device name, or this host has it. `/dev/sdf` and `/dev/xvdf` are the same disk."""
    used = {_letters(mapping.device_name) for mapping in vm.block_device_mappings}
    return _letters(name) in used or any(map(os.path.lexists, names_of(name)))


def _letters(device: str) -> str:
    return device.removeprefix("/dev/").removeprefix("xvd").removeprefix("sd")


@asynccontextmanager
async def _locked(names: Sequence[str], waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the first of some locks of this host that is free; `waiting` is called once if none is at first."""
    descriptor = _take(names)
    if descriptor is None:
        waiting()
    while True:
        if descriptor is not None:
            break
        await asyncio.sleep(_PAUSE)
        descriptor = _take(names)
    try:
        yield
    finally:
        os.close(descriptor)


def _take(names: Sequence[str]) -> int | None:
    """Lock the first of some files of this host that nobody has locked, and return its descriptor."""
    directory = settings().state_dir.expanduser()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in names:
        descriptor = os.open(Path(directory, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return descriptor
    return None
