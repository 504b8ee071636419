"""The state of an OUTSCALE region: accounts, records, files, faults, and what goes on in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from emulators.outscale import errors
from emulators.outscale.accounts import Account, Gate
from emulators.outscale.devices import Device
from emulators.outscale.records import Image, Resource, Shared, Snapshot, Vm, Volume
from emulators.outscale.shelves import Shelf
from emulators.outscale.times import Times
from emulators.region.faults import Faults, Struck
from emulators.region.requests import RequestLog

log = logging.getLogger(__name__)

FAULT_KINDS = frozenset(
    {"quota", "throttle", "slow", "volume_error", "snapshot_error", "image_failed", "link_fails", "link_hangs"}
)
"""Faults that only this region knows.

`quota` and `throttle` refuse a call (`code` chooses the error of the table). `slow` lets the work that a call begins
take `seconds` longer. `volume_error`, `snapshot_error` and `image_failed` let what a create makes end in that state.
`link_fails` ends a link before it is `attached`; `link_hangs` keeps it `attaching` for `seconds`.
"""

VENDOR = "000000000001"
"""The account that owns public OMIs, which nobody has the keys of."""

VENDOR_ALIAS = "Outscale"


@dataclass(frozen=True)
class Place:
    """Where this region is, and which VM of it this machine is."""

    region: str = "eu-west-2"
    subregion: str = "eu-west-2a"
    vm_id: str = "i-00000001"
    other_vms: dict[str, str] = field(default_factory=dict)
    """Further VMs of the same account, and the subregion of each. This machine plays them, too: they share its
    devices."""

    @property
    def vms(self) -> dict[str, str]:
        """Every VM, and its subregion."""
        return {self.vm_id: self.subregion, **self.other_vms}

    @property
    def subregions(self) -> list[str]:
        """All subregions."""
        return sorted({f"{self.region}a", f"{self.region}b", *self.vms.values()})


S = TypeVar("S", bound=Shared)


class OutscaleRegion:
    """Everything that exists, on the file system and in memory."""

    def __init__(
        self,
        directory: Path,
        place: Place,
        accounts: list[Account],
        *,
        times: Times,
        limits: Mapping[str, int] | None = None,
        rate: float | None = None,
        call_rate: float | None = None,
        devices: bool = True,
    ) -> None:
        # The kernel names the files of loop devices by their real paths.
        self.directory = directory.resolve()
        self.place = place
        self.times = times
        self.limits = dict(limits or {})
        """What each account may have at most, by quota; 0 and absent are no limit."""
        self.has_devices = devices
        """Whether linked volumes become block devices; that needs root."""
        self.accounts = accounts
        self.gate = Gate(accounts, rate, call_rate)
        self._aliases = {VENDOR: VENDOR_ALIAS, **{a.account_id: a.alias for a in accounts if a.alias}}
        self.requests = RequestLog()
        self.faults = Faults(FAULT_KINDS)

        records = self.directory / "records"
        self.vms = Shelf(records / "vms", Vm)
        self.volumes = Shelf(records / "volumes", Volume)
        self.snapshots = Shelf(records / "snapshots", Snapshot)
        self.images = Shelf(records / "images", Image)
        for room in ("volumes", "snapshots"):
            (self.directory / room).mkdir(exist_ok=True, mode=0o700)
        self._place_vms()

        self.devices: dict[str, Device] = {}
        """The block devices of linked volumes, by volume."""
        self.names: dict[str, int | None] = {}
        """What keeps the device names of volumes that are being linked from other regions, by volume."""
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def _place_vms(self) -> None:
        for former in self.vms:
            if former.id not in self.place.vms:
                self.vms.delete(former.id)
        for vm_id, subregion in self.place.vms.items():
            vm = self.vms.get(vm_id) or Vm(id=vm_id, account_id="", subregion="")
            vm.account_id, vm.subregion = self.owner.account_id, subregion
            self.vms.save(vm)

    @property
    def owner(self) -> Account:
        """The account of the VM that this machine is."""
        return self.accounts[0]

    def alias(self, account_id: str) -> str | None:
        """The alias of an account, if it has one."""
        return self._aliases.get(account_id)

    def path(self, record: Volume | Snapshot) -> Path:
        """The disk file of a volume or snapshot."""
        room = "volumes" if isinstance(record, Volume) else "snapshots"
        return self.directory / room / f"{record.id}.raw"

    def volume(self, account: Account, volume_id: str) -> Volume:
        """A volume of an account.

        Raises:
            ApiError: it has none of that id.
        """
        found = self.volumes.get(volume_id)
        if found is None or found.account_id != account.account_id:
            raise errors.no_such("volume", volume_id)
        return found

    def snapshot(self, account: Account, snapshot_id: str, *, own: bool = False) -> Snapshot:
        """A snapshot that an account may see, or that it owns."""
        return self._shared(self.snapshots, "snapshot", account, snapshot_id, own=own)

    def image(self, account: Account, image_id: str, *, own: bool = False) -> Image:
        """An OMI that an account may see, or that it owns."""
        return self._shared(self.images, "image", account, image_id, own=own)

    def _shared(self, collection: Shelf[S], kind: str, account: Account, record_id: str, *, own: bool) -> S:
        found = collection.get(record_id)
        if found is None or not found.is_seen_by(account.account_id):
            raise errors.no_such(kind, record_id)
        if own and found.account_id != account.account_id:
            raise errors.access_denied(5, f"The {kind} '{record_id}' belongs to another account.")
        return found

    def vm(self, account: Account, vm_id: str) -> Vm:
        """A VM of an account. Only the owner has any."""
        found = self.vms.get(vm_id)
        if found is None or found.account_id != account.account_id:
            raise errors.no_such("vm", vm_id)
        return found

    def lock(self, record: Volume | Snapshot) -> asyncio.Lock:
        """Held while a disk file is read as a whole or removed."""
        return self._locks.setdefault(record.id, asyncio.Lock())

    def spawn(self, record: Resource, job: Coroutine[Any, Any, None]) -> None:
        """Do something with a resource in the background, in place of what went on with it before."""
        former = self._jobs.get(record.id)
        if former is not None:
            former.cancel()
        task = asyncio.create_task(_after(former, job))
        self._jobs[record.id] = task
        task.add_done_callback(lambda done: self._done(record.id, done))

    def _done(self, record_id: str, task: asyncio.Task[None]) -> None:
        if self._jobs.get(record_id) is task:
            del self._jobs[record_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("what went on with %s failed", record_id, exc_info=error)

    def forget(self, record: Resource) -> None:
        """End what goes on with a resource."""
        if job := self._jobs.get(record.id):
            job.cancel()

    async def stop_jobs(self) -> None:
        """End everything that goes on in the background, where it is."""
        jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    def inventory(self) -> dict[str, Any]:
        """Everything that exists, for the control endpoint."""

        def entry(record: Resource, state: str, **more: Any) -> dict[str, Any]:
            return {
                "id": record.id,
                "name": record.name,
                "state": state,
                "account": record.account_id,
                "tags": record.tags,
                "time_created": record.creation_date.isoformat(),
                **more,
            }

        resources = {
            "vms": [entry(v, "running") for v in self.vms],
            "volumes": [
                entry(
                    v,
                    v.state,
                    path=str(self.path(v)),
                    size=v.size,
                    link_state=v.link.state if v.link else None,
                    device=v.link.device if v.link else None,
                    loop=f"/dev/loop{self.devices[v.id].loop}" if v.id in self.devices else None,
                )
                for v in self.volumes
            ],
            "snapshots": [
                entry(
                    s,
                    s.state,
                    path=str(self.path(s)),
                    size=s.volume_size,
                    volume_id=s.volume_id,
                    description=s.description,
                )
                for s in self.snapshots
            ],
            "images": [
                entry(
                    i,
                    i.state,
                    path=self._root_path(i),
                    description=i.description,
                    snapshot_ids=[m.snapshot_id for m in i.mappings if m.snapshot_id],
                    of_region=i.source_mark is not None,
                )
                for i in self.images
            ],
        }
        return {"region": "outscale", "machines": "local", "resources": resources}

    def _root_path(self, image: Image) -> str | None:
        root = next((m for m in image.mappings if m.device == image.root_device), None)
        snapshot = self.snapshots.get(root.snapshot_id) if root and root.snapshot_id else None
        return str(self.path(snapshot)) if snapshot else None


def slower(struck: Struck) -> float:
    """Seconds that a request's work takes longer than it should."""
    fault = struck.by("slow")
    return fault.number("seconds", 60) if fault else 0


async def _after(former: asyncio.Task[None] | None, job: Coroutine[Any, Any, None]) -> None:
    # A job that is cancelled may still have to finish what cannot be left half done.
    try:
        if former is not None:
            await asyncio.wait([former])
        await job
    finally:
        job.close()
