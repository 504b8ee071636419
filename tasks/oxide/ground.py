"""What a build leaves on an Oxide region, found by its mark, and how each is removed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from uuid import UUID

from blocks.errors import Conflict, Forbidden, InvalidRequest, NotFound
from blocks.oxide.client import OxideClient
from blocks.oxide.models import Instance, Resource
from blocks.settings import settings
from tasks.mark import Mark
from tasks.oxide.swap import finish_swap
from tasks.oxide.temporary import temporary
from tasks.side_by_side import side_by_side
from tasks.teardown import Owned
from tasks.waiting import poll


class OxideGround:
    """One project of an Oxide region, its silo's images, and the SSH keys of the user that the token belongs to."""

    def __init__(self, client: OxideClient, project: str) -> None:
        self._client = client
        self._project = project

    async def owned(self) -> AsyncIterator[Owned]:
        """All marked instances, disks, snapshots, images and SSH keys. A project that is gone holds nothing.

        For as long as an image is there that is to take another's place (`final=`), its snapshot is not among them:
        without it nothing could be finished. A silo's image of that kind is seen where its snapshot is, or from
        everywhere once nothing is left to finish.
        """
        client, project = self._client, self._project
        async with side_by_side() as looks:
            listings = [
                looks.create_task(_marked("instance", client.instances(project))),
                looks.create_task(_marked("disk", client.disks(project))),
                snapshots := looks.create_task(_marked("snapshot", client.snapshots(project))),
                looks.create_task(_marked("image", client.images(project))),
                of_silo := looks.create_task(_if_allowed(_marked("image", client.images()))),
                looks.create_task(_marked("ssh-key", client.ssh_keys())),
            ]
        found = [owned for look in listings for owned in look.result()]
        with_snapshot = {_attempt(owned.mark) for owned in snapshots.result()}
        elsewhere = {
            owned.id
            for owned in of_silo.result()
            if owned.mark.final is not None
            and _attempt(owned.mark) not in with_snapshot
            and not await self._is_there(owned.mark.final)
        }
        unfinished = {_attempt(owned.mark) for owned in found if owned.mark.final is not None}
        for owned in found:
            kept = owned.kind == "snapshot" and _attempt(owned.mark) in unfinished
            if not kept and owned.id not in elsewhere:
                yield owned

    async def _is_there(self, name: str) -> bool:
        """Whether the silo has an image of that name."""
        try:
            await self._client.image(name)
        except NotFound:
            return False
        return True

    async def left_to(self, resource: Owned) -> str:
        """Nobody in particular: whoever has the credentials gets at everything."""
        del resource
        return ""

    async def remove(self, resource: Owned) -> None:
        """Remove one resource; an instance is switched off first, a swap of images is finished first."""
        try:
            await self._remove(resource)
        except NotFound:
            return

    async def _remove(self, resource: Owned) -> None:
        match resource.kind:
            case "instance":
                try:
                    await self._client.delete_instance(resource.id)
                except (InvalidRequest, Conflict):  # it is not switched off, as it is after a build that went well
                    await self._switch_off(resource)
                    await self._client.delete_instance(resource.id)
            case "disk":
                await self._client.delete_disk(resource.id)
            case "snapshot":
                await self._client.delete_snapshot(resource.id)
            case "ssh-key":
                await self._client.delete_ssh_key(resource.id)
            case "image":
                if resource.mark.final is not None:
                    await finish_swap(self._client, self._project, resource.id, resource.mark)
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


async def _marked(kind: str, listing: AsyncIterator[Resource]) -> list[Owned]:
    """What is marked among what may be ten thousand: of all else a page at a time is held."""
    found = []
    with suppress(NotFound):  # the project is gone
        async for resource in listing:
            mark = Mark.parse(resource.description)
            if mark is not None:
                found.append(temporary(kind, resource.id, resource.name, mark))
    return found


async def _if_allowed(look: Awaitable[list[Owned]]) -> list[Owned]:
    try:
        return await look
    except Forbidden:  # then no build of this user's has made any
        return []


def _attempt(mark: Mark) -> tuple[UUID, int]:
    return mark.run, mark.attempt
