"""The temporary instance of a build, from its creation until it is off."""

from __future__ import annotations

from blocks.errors import BakeryError, CapacityExhausted, CommunicatorError, EndedBadly, NotFound
from blocks.oxide.models import Instance, SshKey
from blocks.oxide.requests import InstanceCreate
from blocks.settings import settings
from tasks.communicator import as_root, read
from tasks.oxide.plan import Plan
from tasks.oxide.room import Room, is_about_addresses
from tasks.oxide.run import OxideRun
from tasks.ssh.guest import SshGuest
from tasks.step import step
from tasks.waiting import poll

_CONSOLE_TAIL = 4096


@step("create temporary key")
async def create_temporary_key(run: OxideRun, name: str, public_key: str) -> SshKey:
    """Give the rack the public half of the key that lets us into the guest."""
    return await run.create_named(
        f"SSH key {name}",
        lambda: run.client.create_ssh_key(name, str(run.mark), public_key),
        lambda: run.client.ssh_key(name),
    )


@step("launch instance")
async def launch_instance(run: OxideRun, plan: Plan, room: Room) -> Instance:
    """Make the instance with its disks, and start it. Where a pool has no address left, the next one is asked.

    Args:
        run: The run.
        plan: What the instance is like.
        room: How patiently room is waited for.

    Raises:
        CapacityExhausted: the rack or the quota has no room for it, and did not have any in time.
    """
    while True:
        try:
            return await _launch_from_any_pool(run, plan)
        except CapacityExhausted as error:
            await room.wait_after(error)


async def _launch_from_any_pool(run: OxideRun, plan: Plan) -> Instance:
    *others, last = plan.requests()
    for request in others:
        try:
            return await _launch(run, request)
        except CapacityExhausted as error:
            if not is_about_addresses(error):
                raise
            run.logger.warning("A pool has no address left, trying the next one: %s", error.why)
    return await _launch(run, last)


async def _launch(run: OxideRun, request: InstanceCreate) -> Instance:
    return await run.create_named(
        f"instance {request.name}",
        lambda: run.client.create_instance(run.project, request),
        lambda: run.client.instance(request.name, project=run.project),
    )


@step("wait until running")
async def wait_until_running(run: OxideRun, instance: Instance, timeout: float, room: Room) -> Instance:
    """Wait until the instance runs.

    A create hides a start that failed: the instance is then `stopped`, and starting it again shows the reason.

    Args:
        run: The run.
        instance: The instance.
        timeout: Seconds that it may take, not counting those in which room is waited for.
        room: How patiently room is waited for.

    Raises:
        CapacityExhausted: the rack or the quota has no room for it, and did not have any in time.
        EndedBadly: it failed, vanished, or stopped by itself.
        WaitExpired: it took too long.
    """
    while True:
        try:
            return await _until_running(run, instance, timeout)
        except CapacityExhausted as error:
            await room.wait_after(error)


async def _until_running(run: OxideRun, instance: Instance, timeout: float) -> Instance:
    started_again = False
    resource = f"instance {instance.name} ({instance.id})"

    async def look() -> Instance:
        nonlocal started_again
        try:
            seen = await run.client.instance(instance.id)
        except NotFound as error:
            raise EndedBadly(
                "the instance vanished while it was being created",
                resource=resource,
                hint="The rack undid its creation. Run the build again; if it happens again, ask the rack's operators.",
            ) from error
        if seen.run_state == "stopped" and not started_again:
            started_again = True
            return await run.client.start_instance(instance.id)
        return seen

    return await poll(
        look,
        lambda seen: _runs(seen, resource),
        what="running",
        resource=resource,
        timeout=timeout,
        describe=lambda seen: seen.run_state,
    )


def _runs(seen: Instance, resource: str) -> bool:
    match seen.run_state:
        case "stopped":
            raise EndedBadly(
                "the instance is stopped",
                resource=resource,
                why="it was started twice and did not stay up",
                hint="Does the source image boot? Boot it by hand and look at its serial console.",
            )
        case "failed" | "destroyed":
            raise EndedBadly(
                f"the instance is {seen.run_state}",
                resource=resource,
                why="the rack could not run it",
                hint="Run the build again; if it happens again, give the rack's operators the instance's id.",
            )
    return seen.run_state == "running"


@step("find address")
async def find_address(run: OxideRun, instance: Instance, plan: Plan) -> str:
    """The address by which the instance is reached: its external one or, where it is to have none, its private one."""

    async def look() -> list[str]:
        if not plan.instance.external_ips:
            interfaces = await run.client.network_interfaces(instance.id)
            return [interface.ip for interface in interfaces if interface.primary]
        ips = await run.client.external_ips(instance.id)
        return [ip.ip for ip in ips if ip.kind in ("ephemeral", "floating")]

    kind = "external" if plan.instance.external_ips else "private"
    addresses = await poll(
        look,
        bool,
        what=f"reachable: it has no {kind} address",
        resource=f"instance {instance.name} ({instance.id})",
        timeout=settings().api_timeout,
        describe=lambda seen: ", ".join(seen) or f"no {kind} address",
    )
    run.logger.info("The instance answers at %s", addresses[0])
    return addresses[0]


@step("connect", retries=0)
async def connect(run: OxideRun, guest: SshGuest, instance: Instance, timeout: float) -> None:
    """Log in to the guest as soon as its SSH server answers.

    Raises:
        CannotConnect: it cannot be reached, or does not let us in. The end of its serial console is in the log.
    """
    try:
        await guest.connect(timeout)
    except CommunicatorError:
        await show_console(run, instance)
        raise
    run.logger.info(
        "Connected to %s, whose host key is %s", guest, guest.host_key.fingerprint if guest.host_key else ""
    )


async def show_console(run: OxideRun, instance: Instance) -> None:
    """Put the end of the serial console into the log. It is lost once the instance stops."""
    try:
        console = await run.client.serial_console(instance.id, _CONSOLE_TAIL)
    except BakeryError as error:
        run.logger.info("The serial console cannot be read: %s", error)
        return
    text = console.data.decode(errors="replace").replace("\r", "")
    lines = ["".join(char for char in line if char.isprintable()) for line in text.splitlines()]
    run.logger.warning(
        "The end of the instance's serial console:\n%s", "\n".join(f"  | {line}" for line in lines[-40:])
    )


@step("shut down", retries=1)
async def shut_down(run: OxideRun, guest: SshGuest | None, instance: Instance, timeout: float) -> None:
    """Have the guest write everything to its disk and switch itself off, within `timeout` seconds.

    The rack's own stop cuts the power: what the guest has not written by then would be missing in the image. It is used
    only for a guest that does not switch itself off in time, after its disks have been flushed, and for one that
    nothing logs in to (`communicator: none`).
    """
    resource = f"instance {instance.name} ({instance.id})"
    if guest is None:
        run.logger.warning("Nothing logs in to the guest: its power is cut, whatever it has not written to its disk.")
        await run.client.stop_instance(instance.id)
        await _wait_until_off(run, instance, resource, settings().stop_timeout)
        return
    if guest.is_connected:
        code, said = await read(guest, as_root("sync"))
        if code != 0:
            run.logger.warning("The guest could not flush its disks: %s", said)
        try:
            await read(guest, as_root("(sleep 0.2; poweroff || shutdown -h now) >/dev/null 2>&1 &"))
        except CommunicatorError as error:
            run.logger.debug("The connection ended with the guest: %s", error)
        guest.close()
    try:
        await _wait_until_off(run, instance, resource, timeout)
    except BakeryError as error:
        run.logger.warning("%s. Its disks were flushed; the power is cut now.", error.what)
        await run.client.stop_instance(instance.id)
        await _wait_until_off(run, instance, resource, settings().stop_timeout)


async def _wait_until_off(run: OxideRun, instance: Instance, resource: str, timeout: float) -> None:
    await poll(
        lambda: run.client.instance(instance.id),
        lambda seen: seen.run_state in ("stopped", "failed"),
        what="stopped",
        resource=resource,
        timeout=timeout,
        describe=lambda seen: seen.run_state,
    )
