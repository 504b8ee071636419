"""What a build leaves on an Oxide region, found by its mark, and how each is removed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from blocks.errors import Conflict, InvalidRequest, NotFound
from blocks.oxide.client import OxideClient
from blocks.oxide.models import Disk, Image, Instance, Resource, Snapshot, SshKey
from blocks.settings import settings
from tasks.mark import Mark
from tasks.teardown import Owned
from tasks.waiting import poll

_RANKS = {"instance": 0, "disk": 1, "snapshot": 1, "ssh-key": 1, "image": 2}
_BY_HAND = {
    "instance": "oxide instance stop --instance {id}; oxide instance delete --instance {id}",
    "disk": "oxide disk delete --disk {id}",
    "snapshot": "oxide snapshot delete --snapshot {id}",
    "ssh-key": "oxide current-user ssh-key delete --ssh-key {id}",
    "image": "oxide image delete --image {id}",
}


class OxideGround:
    """One project of an Oxide region, and the SSH keys of the user that the token belongs to."""

    def __init__(self, client: OxideClient, project: str) -> None:
        self._client = client
        self._project = project

    async def owned(self) -> AsyncIterator[Owned]:
        """All marked instances, disks, snapshots, images and SSH keys. A project that is gone holds nothing."""
        client, project = self._client, self._project
        try:
            async for resource in _marked("instance", client.instances(project)):
                yield resource
            async for resource in _marked("disk", client.disks(project)):
                yield resource
            async for resource in _marked("snapshot", client.snapshots(project)):
                yield resource
            async for resource in _marked("image", client.images(project)):
                yield resource
        except NotFound:
            pass
        async for resource in _marked("ssh-key", client.ssh_keys()):
            yield resource

    async def remove(self, resource: Owned) -> None:
        """Remove one resource; an instance is switched off first."""
        try:
            await self._remove(resource)
        except NotFound:
            return

    async def _remove(self, resource: Owned) -> None:
        match resource.kind:
            case "instance":
                await self._switch_off(resource)
                await self._client.delete_instance(resource.id)
            case "disk":
                await self._client.delete_disk(resource.id)
            case "snapshot":
                await self._client.delete_snapshot(resource.id)
            case "ssh-key":
                await self._client.delete_ssh_key(resource.id)
            case "image":
                await self._client.delete_image(resource.id)

    async def _switch_off(self, resource: Owned) -> None:
        async def look() -> Instance:
            instance = await self._client.instance(resource.id)
            # Refused while it is being created or is stopping by itself: then the next look tells.
            if instance.run_state not in ("stopped", "stopping", "failed", "destroyed", "creating"):
                try:
                    return await self._client.stop_instance(resource.id)
                except (InvalidRequest, Conflict):
                    return await self._client.instance(resource.id)
            return instance

        await poll(
            look,
            lambda instance: instance.run_state in ("stopped", "failed", "destroyed"),
            what="stopped",
            resource=str(resource),
            timeout=settings().stop_timeout,
            describe=lambda instance: instance.run_state,
        )


async def _marked(
    kind: str,
    listing: AsyncIterator[Instance]
    | AsyncIterator[Disk]
    | AsyncIterator[Snapshot]
    | AsyncIterator[Image]
    | AsyncIterator[SshKey],
) -> AsyncIterator[Owned]:
    item: Resource
    async for item in listing:
        mark = Mark.parse(item.description)
        if mark is not None:
            yield Owned(kind, item.id, item.name, mark, _RANKS[kind], _BY_HAND[kind].format(id=item.id))
