"""Power: what the machines of instances do in the background, and the states that clients see meanwhile."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from emulators.machines import CloudInit, Machine, MachineSpec, PowerOff
from emulators.oxide import groups, quotas
from emulators.oxide.errors import ApiError
from emulators.oxide.records import DiskState, Instance, InstanceState, now
from emulators.oxide.region import OxideRegion, Struck
from emulators.region.faults import Fault

log = logging.getLogger(__name__)


class Power:
    """Runs each instance's machine. One thing at a time happens to an instance, in the order it was asked for."""

    def __init__(self, region: OxideRegion) -> None:
        self._region = region
        self._machines: dict[str, Machine] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def machine(self, instance_id: str) -> Machine:
        """An instance's machine."""
        if instance_id not in self._machines:
            self._machines[instance_id] = self._region.machines.machine(instance_id)
        return self._machines[instance_id]

    def start(self, instance: Instance, struck: Struck | None = None) -> None:
        """Start an instance. It is `starting` at once."""
        struck = struck or Struck()
        instance.behaviour |= struck.behaviour()
        self._become(instance, InstanceState.STARTING)
        self._spawn(self._start(instance, struck.by("instance_failed")))

    def stop(self, instance: Instance) -> None:
        """Cut an instance's power. It is `stopping` at once."""
        self._become(instance, InstanceState.STOPPING)
        self._spawn(self._stop(instance))

    def reboot(self, instance: Instance) -> None:
        """Reset an instance. It is `rebooting` at once."""
        self._become(instance, InstanceState.REBOOTING)
        self._spawn(self._reboot(instance))

    async def fail(self, instance: Instance) -> None:
        """Have an instance that is up fail, as when its sled does."""
        async with self._lock(instance.id):
            if instance.state in {InstanceState.CREATING, InstanceState.STOPPED, InstanceState.FAILED}:
                return
            self._unwatch(instance.id)
            await self.machine(instance.id).power_off()
            self._fail(instance)

    async def forget(self, instance_id: str) -> None:
        """Let go of the machine of an instance that is deleted."""
        self._unwatch(instance_id)
        self._locks.pop(instance_id, None)
        if machine := self._machines.pop(instance_id, None):
            await machine.power_off()

    async def close(self) -> None:
        """Power everything off, as for the end of the region. What clients would see stays as it was."""
        running = [*self._tasks, *self._watchers.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        results = await asyncio.gather(
            *(machine.power_off() for machine in self._machines.values()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                log.error("a machine could not be powered off: %s", result)

    def _become(self, instance: Instance, state: InstanceState) -> None:
        instance.state, instance.time_run_state_updated = state, now()
        self._region.instances.save(instance)

    def _exists(self, instance: Instance) -> bool:
        return self._region.instances.get(instance.id) is not None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _lock(self, instance_id: str) -> asyncio.Lock:
        return self._locks.setdefault(instance_id, asyncio.Lock())

    async def _start(self, instance: Instance, fails: Fault | None) -> None:
        async with self._lock(instance.id):
            await asyncio.sleep(self._region.times.start)
            if instance.state is not InstanceState.STARTING:
                return
            machine = self.machine(instance.id)
            try:
                await machine.power_on(self._spec(instance))
            except OSError as error:
                log.error("instance %s did not start: %s", instance.name, error)
                self._fail(instance)
                return
            if fails and not fails.number("seconds", 0):
                await machine.power_off()
                self._fail(instance)
                return
            self._watch(instance, machine)
            # Whoever asked for a stop meanwhile waits for the lock, and must not see `running` again.
            if instance.state is InstanceState.STARTING:
                self._become(instance, InstanceState.RUNNING)
                if fails:
                    self._spawn(self._fail_later(instance, fails.number("seconds", 0)))

    async def _fail_later(self, instance: Instance, seconds: float) -> None:
        started = instance.time_run_state_updated
        await asyncio.sleep(seconds)
        if self._exists(instance) and instance.time_run_state_updated == started:
            await self.fail(instance)

    async def _stop(self, instance: Instance) -> None:
        async with self._lock(instance.id):
            self._unwatch(instance.id)
            if instance.id in self._machines:
                await self._machines[instance.id].power_off()
            await asyncio.sleep(self._region.times.stop)
            self._become(instance, InstanceState.STOPPED)

    async def _reboot(self, instance: Instance) -> None:
        async with self._lock(instance.id):
            if instance.state is not InstanceState.REBOOTING:
                return
            self._unwatch(instance.id)
            machine = self.machine(instance.id)
            await asyncio.sleep(self._region.times.reboot)
            try:
                await machine.reset()
            except OSError as error:
                log.error("instance %s did not come back: %s", instance.name, error)
                self._fail(instance)
                return
            self._watch(instance, machine)
            if instance.state is InstanceState.REBOOTING:
                self._become(instance, InstanceState.RUNNING)

    def _watch(self, instance: Instance, machine: Machine) -> None:
        self._unwatch(instance.id)
        self._watchers[instance.id] = asyncio.create_task(self._until_off(instance, machine))

    def _unwatch(self, instance_id: str) -> None:
        if watcher := self._watchers.pop(instance_id, None):
            watcher.cancel()

    async def _until_off(self, instance: Instance, machine: Machine) -> None:
        how = await machine.wait_off()
        self._watchers.pop(instance.id, None)
        if instance.state not in {InstanceState.STARTING, InstanceState.RUNNING, InstanceState.REBOOTING}:
            return
        if how is PowerOff.CRASHED:
            log.error("the machine of instance %s crashed", instance.name)
            self._fail(instance)
        else:
            self._become(instance, InstanceState.STOPPED)

    def _fail(self, instance: Instance) -> None:
        self._become(instance, InstanceState.FAILED)
        if instance.auto_restart_policy != "never":
            self._spawn(self._restart(instance))

    async def _restart(self, instance: Instance) -> None:
        times = self._region.times
        wait = times.restart
        if last := instance.time_last_auto_restarted:
            until = last + timedelta(seconds=times.restart_cooldown)
            wait = max(wait, (until - now()).total_seconds())
        failed_at = instance.time_run_state_updated
        await asyncio.sleep(wait)
        same_failure = instance.time_run_state_updated == failed_at
        if self._exists(instance) and instance.state is InstanceState.FAILED and same_failure:
            instance.time_last_auto_restarted = now()
            try:
                groups.check_start(self._region, instance)
                quotas.check_start(self._region, instance)
            except ApiError as error:
                log.warning("instance %s is not restarted: %s", instance.name, error)
                return
            self.start(instance)

    def _spec(self, instance: Instance) -> MachineSpec:
        region = self._region
        keys = [region.ssh_keys.get(key_id) for key_id in instance.ssh_key_ids]
        disks = [disk for disk_id in instance.disk_ids if (disk := region.disks.get(disk_id)) is not None]
        disks.sort(key=lambda disk: disk.id != instance.boot_disk_id)
        addresses = region.ssh_addresses(instance)
        workdir = region.directory / "machines" / instance.id
        workdir.mkdir(exist_ok=True, mode=0o700)
        return MachineSpec(
            id=instance.id,
            memory=instance.memory,
            cpus=instance.ncpus,
            disks=tuple(region.path(disk) for disk in disks if disk.state is DiskState.ATTACHED),
            cloud_init=CloudInit(
                instance_id=instance.id,
                hostname=instance.hostname,
                public_keys=tuple(key.public_key for key in keys if key is not None),
                user_data=base64.b64decode(instance.user_data),
            ),
            address=next(iter(addresses), None),
            more_addresses=tuple(addresses[1:]),
            workdir=workdir,
            behaviour=region.behaviour_of(instance),
        )
