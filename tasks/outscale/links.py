"""A volume's link to this VM as the kernel shows it: that is sooner than the region says so, and costs no request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from blocks.errors import Conflict, EndedBadly, WaitExpired
from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import Volume
from tasks.chroot.device import forget_partitions, names_of, node_of, wait_until_free
from tasks.outscale.waits import look_until, wait_for_volume

_PAUSE = 0.05
_FIRST_LOOK = 2.0
"""Seconds until the region is asked what became of a link that the kernel does not show."""
_LONGEST_BETWEEN = 10.0
_FREE = 30
_VANISHES = 5
"""Seconds that a device without a link may still be seen before the region is asked."""


async def wait_for_link(client: OutscaleClient, volume_id: str, device: str, timeout: float) -> str:
    """Wait until a linked volume is there as a block device.

    Args:
        client: The account's view.
        volume_id: The volume.
        device: The name of its link, or where it shows up on this host.
        timeout: Seconds.

    Returns:
        The name that it has on this host.

    Raises:
        EndedBadly: the region ended the link.
        WaitExpired: no such device by then.
    """
    clock = asyncio.get_running_loop().time
    end, between = clock() + timeout, _FIRST_LOOK
    next_look, last = clock() + between, "it was not asked yet"
    while (node := node_of(device)) is None:
        if clock() > next_look:
            volume = await client.volume(volume_id)
            if not volume.linked_volumes:
                raise EndedBadly(
                    "its link came to nothing",
                    resource=f"volume {volume_id} as {device}",
                    why=f"the volume is {volume.state} again",
                    hint="Run the build again. Does something else on this VM use that device name?",
                )
            last = volume.linked_volumes[0].state
            between = min(between * 1.5, _LONGEST_BETWEEN)
            next_look = clock() + between
        if clock() > end:
            raise WaitExpired(
                f"no block device after {timeout:g} s",
                resource=f"volume {volume_id} as {device}",
                why=f"looked for {', '.join(names_of(device))}; the region says of the link: {last}",
                hint="Is it there under another name (lsblk)? Then say so: nvme_device_path. Does udev run here?",
            )
        await asyncio.sleep(_PAUSE)
    return node


async def end_link(client: OutscaleClient, volume: Volume, nodes: Sequence[str], timeout: float) -> None:
    """Unlink a volume, once nothing on this host uses it, and wait until it is available.

    Forcing it would cut a file system that is being written.

    Args:
        client: The account's view.
        volume: As it was seen last.
        nodes: Where it may be on this host; none when it is linked to another VM, where the same names are others'.
        timeout: Seconds.

    Raises:
        WaitExpired: it stays in use, or linked.
    """
    for node in nodes:
        await wait_until_free(node, _FREE)
        await forget_partitions(node)
    await _unlink(client, volume.volume_id, timeout)
    await _until_gone(nodes, _VANISHES)
    await wait_for_volume(client, volume.volume_id, timeout)


async def _unlink(client: OutscaleClient, volume_id: str, timeout: float) -> None:
    try:
        await client.unlink_volume(volume_id)
        return
    except Conflict:
        seen = await client.volume(volume_id)
    if not any(link.state == "attaching" for link in seen.linked_volumes):
        return  # it is being unlinked, or was already
    await look_until(
        lambda: client.volume(volume_id),
        lambda volume: not any(link.state == "attaching" for link in volume.linked_volumes),
        what="wholly linked, which it has to be to be unlinked",
        resource=f"volume {volume_id}",
        timeout=timeout,
        describe=lambda volume: ", ".join(link.state for link in volume.linked_volumes) or volume.state,
    )
    await client.unlink_volume(volume_id)


async def _until_gone(nodes: Sequence[str], timeout: float) -> None:
    clock = asyncio.get_running_loop().time
    end = clock() + timeout
    while any(map(node_of, nodes)):
        if clock() > end:
            return
        await asyncio.sleep(_PAUSE)
