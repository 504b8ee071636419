"""What a build leaves in an OUTSCALE account, found by its mark, and how each is removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

from blocks.errors import AlreadyExists, CloudError, EndedBadly, NotFound, ReplyLost, ServiceFault
from blocks.outscale.client import OutscaleClient
from blocks.outscale.metadata import this_vm
from blocks.outscale.models import Image, ImageCreate, ImageFilters, Snapshot, SnapshotFilters, Volume, VolumeFilters
from blocks.settings import settings
from tasks.chroot.device import names_of
from tasks.mark import Lineage, Mark
from tasks.outscale.by_hand import by_hand
from tasks.outscale.copies import is_copy, mark_snapshots
from tasks.outscale.links import end_link
from tasks.outscale.omis import omi_named
from tasks.outscale.replacement import finish
from tasks.outscale.tokens import ARTIFACT, DESCRIPTION_TAG, RUN_TAG, TAG, mark_of, tokens, values
from tasks.outscale.waits import wait_for_omi, wait_for_volume
from tasks.teardown import Owned

_NOT_ASKED = ""


class OutscaleGround:
    """One account in one region, looked through for one run.

    Args:
        client: The account's view.
        lineage: Whose resources are looked for; None: everybody's.
    """

    def __init__(self, client: OutscaleClient, lineage: Lineage | None = None) -> None:
        self._client = client
        self._lineage = lineage
        self._tokens = tokens(lineage) if lineage else None
        self._account = ""
        self._images: dict[str, Image] = {}
        self._volumes: dict[str, Volume] = {}
        """As the last look saw them."""
        self._vm: str | None = _NOT_ASKED

    async def owned(self) -> AsyncIterator[Owned]:
        """The run's marked OMIs, snapshots and volumes; OMIs of other runs, too, as far as they carry a mark."""
        if not self._account:
            self._account = (await self._client.accounts())[0].account_id
        own = self._client.images(ImageFilters(account_ids=[self._account]))
        marked = [(image, mark) async for image in own if (mark := _unfinished(image)) is not None]
        self._images = {image.image_id: image for image, _ in marked}
        replacing = [(image, mark) for image, mark in marked if mark.final is not None]
        for image, mark in marked:
            # What a replacement has made of the final name is for the temporary OMI's removal to see to.
            if not any(mark.run == other.run and image.image_name == other.final for _, other in replacing):
                yield _owned("image", image.image_id, image.image_name, mark, 0)
        # As long as an OMI stands on them, they wait for what becomes of it.
        held = {identifier for image, _ in replacing for identifier in image.snapshot_ids}
        async for snapshot, mark in self._marked_snapshots():
            if snapshot.snapshot_id not in held:
                yield _owned("snapshot", snapshot.snapshot_id, snapshot.description, mark, 1)
        async for volume in self._client.volumes(VolumeFilters(client_tokens=self._tokens)):
            mark_ = mark_of(volume.tags, volume.client_token, volume.creation_date)
            if mark_ is not None:
                self._volumes[volume.volume_id] = volume
                yield _owned("volume", volume.volume_id, volume.client_token, mark_, 1)

    async def _marked_snapshots(self) -> AsyncIterator[tuple[Snapshot, Mark]]:
        seen = set()
        ways = [SnapshotFilters(account_ids=[self._account], client_tokens=self._tokens)]
        if self._lineage:  # the snapshots of copies have no token
            runs = [run for run in (self._lineage.run, self._lineage.resumes) if run]
            ways.append(SnapshotFilters(tags=[f"{RUN_TAG}={run}" for run in runs]))
        for filters in ways:
            async for snapshot in self._client.snapshots(filters):
                mark = mark_of(snapshot.tags, snapshot.client_token, snapshot.creation_date)
                if mark is not None and snapshot.state != "deleting" and snapshot.snapshot_id not in seen:
                    seen.add(snapshot.snapshot_id)
                    yield snapshot, mark

    async def left_to(self, resource: Owned) -> str:
        """The worker of the VM that a volume is linked to: it alone sees whether something there still uses it.

        Anyone else may unlink it once that VM is gone.
        """
        volume = self._volumes.get(resource.id) if resource.kind == "volume" else None
        for link in volume.linked_volumes if volume else ():
            if link.vm_id == await self._this_vm():
                continue
            try:
                state = (await self._client.vm(link.vm_id)).state
            except NotFound:
                continue
            if state != "terminated":
                return f"it is linked to VM {link.vm_id}, which is {state}: a worker there removes it"
        return ""

    async def _this_vm(self) -> str | None:
        """The VM that this process runs on, if it is one."""
        if self._vm is _NOT_ASKED:
            try:
                self._vm = (await this_vm()).vm_id
            except CloudError:
                self._vm = None
        return self._vm

    async def remove(self, resource: Owned) -> None:
        """Remove one resource. A volume is unlinked first, once nothing on this host uses it.

        A temporary OMI whose final name nobody has is what a replacement left in the middle: that is finished first.
        """
        try:
            match resource.kind:
                case "image":
                    await self._remove_image(resource)
                case "snapshot":
                    await self._client.delete_snapshot(resource.id)
                case "volume":
                    await self._remove_volume(resource)
        except NotFound:
            return

    async def _remove_image(self, resource: Owned) -> None:
        image = self._images[resource.id]
        if resource.mark.final is not None:
            await self._finish_replacement(image, resource.mark)
        elif is_copy(image, resource.mark):
            with suppress(EndedBadly):  # it failed, and has none
                await mark_snapshots(self._client, image, resource.mark, settings().stop_timeout)
        await self._client.delete_image(resource.id)

    async def _finish_replacement(self, temporary: Image, mark: Mark) -> None:
        named = await omi_named(self._client, self._account, str(mark.final))
        if named is not None and not _is_half_made(named, mark):
            description = values(temporary.tags).get(DESCRIPTION_TAG)
            if _is_marked_by(named, mark) and description is not None:  # finished, but for this
                await self._client.update_image(named.image_id, description=description)
            return
        try:
            temporary = await wait_for_omi(self._client, temporary, settings().snapshot_timeout)
        except EndedBadly:
            return  # it was never good, so the old OMI was not touched
        if named is not None and named.state == "failed":
            await self._client.delete_image(named.image_id)
        snapshots = await self._ours(temporary, mark)
        await finish(self._client, temporary, mark, snapshots, self._begin, settings().snapshot_timeout)

    async def _ours(self, image: Image, mark: Mark) -> list[str]:
        found = []
        async for snapshot in self._client.snapshots(SnapshotFilters(snapshot_ids=image.snapshot_ids)):
            of = mark_of(snapshot.tags, snapshot.client_token, snapshot.creation_date)
            if of is not None and of.run == mark.run:
                found.append(snapshot.snapshot_id)
        return found

    async def _begin(self, request: ImageCreate, mark: Mark) -> Image:
        try:
            return await self._client.create_image(request.model_copy(update={"description": str(mark)}))
        except (AlreadyExists, ReplyLost, ServiceFault):
            named = await omi_named(self._client, self._account, str(request.image_name))
            if named is not None and _is_half_made(named, replace(mark, final=request.image_name)):
                return named
            raise

    async def _remove_volume(self, resource: Owned) -> None:
        volume = self._volumes[resource.id]
        if volume.state == "deleting":
            return
        if volume.linked_volumes:
            vm = await self._this_vm()
            if vm is None and resource.mark.host.on_this_host:  # it was when the build began
                vm = volume.linked_volumes[0].vm_id
            here = [name for link in volume.linked_volumes if link.vm_id == vm for name in names_of(link.device_name)]
            await end_link(self._client, volume, here, settings().stop_timeout)
        elif volume.state == "creating":
            with suppress(EndedBadly):  # in error it can be deleted, too
                await wait_for_volume(self._client, resource.id, settings().stop_timeout)
        await self._client.delete_volume(resource.id)


def _unfinished(image: Image) -> Mark | None:
    return None if values(image.tags).get(TAG) == ARTIFACT else Mark.parse(image.description)


def _is_marked_by(image: Image, mark: Mark) -> bool:
    said = Mark.parse(image.description)
    return said is not None and said.run == mark.run


def _is_half_made(image: Image, temporary: Mark) -> bool:
    """Whether an OMI of the final name is what the same replacement began, and did not come to finish."""
    return image.image_name == temporary.final and _unfinished(image) is not None and _is_marked_by(image, temporary)


def _owned(kind: str, identifier: str, name: str, mark: Mark, rank: int) -> Owned:
    return Owned(kind, identifier, name, mark, rank, by_hand(kind, identifier, mark))
