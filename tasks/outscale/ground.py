"""What a build leaves in an OUTSCALE account, found by its mark, and how each is removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from blocks.errors import Conflict, NotFound
from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import ImageFilters, SnapshotFilters, Volume, VolumeFilters
from blocks.settings import settings
from tasks.chroot.device import forget_partitions, names_of, wait_until_free
from tasks.mark import Mark
from tasks.outscale.tokens import ARTIFACT, TAG, mark_of, tokens, values
from tasks.teardown import Owned
from tasks.waiting import poll

_FREE = 30


class OutscaleGround:
    """One account in one region, looked through for one run.

    Args:
        client: The account's view.
        run: Whose resources are looked for.
        attempts: The last of its attempts that counts.
    """

    def __init__(self, client: OutscaleClient, run: UUID, attempts: int) -> None:
        self._client = client
        self._tokens = tokens(run, attempts)

    async def owned(self) -> AsyncIterator[Owned]:
        """The run's marked OMIs, snapshots and volumes; OMIs of other runs, too, as far as they carry a mark."""
        accounts = [account.account_id for account in await self._client.accounts()]
        async for image in self._client.images(ImageFilters(account_ids=accounts)):
            mark = Mark.parse(image.description)
            if mark is not None and values(image.tags).get(TAG) != ARTIFACT:
                yield _owned("image", image.image_id, image.image_name, mark, 0)
        async for snapshot in self._client.snapshots(SnapshotFilters(client_tokens=self._tokens)):
            mark = mark_of(snapshot.tags, snapshot.client_token, snapshot.creation_date)
            if mark is not None and snapshot.state != "deleting":
                yield _owned("snapshot", snapshot.snapshot_id, snapshot.description, mark, 1)
        async for volume in self._client.volumes(VolumeFilters(client_tokens=self._tokens)):
            mark = mark_of(volume.tags, volume.client_token, volume.creation_date)
            if mark is not None:
                yield _owned("volume", volume.volume_id, volume.client_token, mark, 1)

    async def remove(self, resource: Owned) -> None:
        """Remove one resource; a volume is unlinked first, once nothing on this host uses it."""
        try:
            match resource.kind:
                case "image":
                    await self._client.delete_image(resource.id)
                case "snapshot":
                    await self._client.delete_snapshot(resource.id)
                case "volume":
                    await self._remove_volume(resource)
        except NotFound:
            return

    async def _remove_volume(self, resource: Owned) -> None:
        volume = await self._client.volume(resource.id)
        if volume.state == "in-use":
            await unlink(self._client, volume)
        await poll(
            lambda: self._client.volume(resource.id),
            lambda seen: seen.state in ("available", "error", "deleting"),
            what="available",
            resource=str(resource),
            timeout=settings().stop_timeout,
            describe=lambda seen: seen.state,
        )
        await self._client.delete_volume(resource.id)


async def unlink(client: OutscaleClient, volume: Volume) -> None:
    """Unlink a volume, once nothing on this host uses it. Forcing it would cut a file system that is being written.

    Raises:
        WaitExpired: it stays in use.
    """
    for link in volume.linked_volumes:
        if link.state not in ("attaching", "attached"):
            continue
        for name in names_of(link.device_name):
            # On a VM that it is not linked to there is no such device, and then it is free.
            await wait_until_free(name, _FREE)
            await forget_partitions(name)
        try:
            await client.unlink_volume(volume.volume_id)
        except Conflict:
            return  # it is being unlinked already


def _owned(kind: str, identifier: str, name: str, mark: Mark, rank: int) -> Owned:
    option = {"image": "ImageId", "snapshot": "SnapshotId", "volume": "VolumeId"}[kind]
    command = f"osc-cli api Delete{option.removesuffix('Id')} --{option} {identifier}"
    return Owned(kind, identifier, name, mark, rank, command)
