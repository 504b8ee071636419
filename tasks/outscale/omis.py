"""What a build ends with: the snapshot, the OMI, its permissions and tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from blocks.errors import NotFound
from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import (
    Image,
    ImageCreate,
    ImageFilters,
    PermissionsChange,
    PermissionsSet,
    Snapshot,
    Volume,
)
from tasks import begun
from tasks.mark import Mark, provenance
from tasks.outscale.by_hand import by_hand
from tasks.outscale.run import OutscaleRun
from tasks.outscale.tokens import ARTIFACT, TAG
from tasks.outscale.waits import wait_for_omi, wait_for_snapshot
from tasks.step import step


@dataclass(frozen=True)
class Share:
    """Who else may use an OMI."""

    accounts: Sequence[str]
    """Who may launch it, and make volumes of its snapshot."""
    snapshot_accounts: Sequence[str]
    """Who may make volumes of its snapshot, too."""
    everybody: bool
    """Whether everybody may launch it. Its snapshot stays private."""

    @property
    def anybody(self) -> bool:
        """Whether anybody else may use it at all."""
        return self.everybody or bool(self.of_snapshot)

    @property
    def of_snapshot(self) -> list[str]:
        """Everyone who may make volumes of the snapshot."""
        return list(dict.fromkeys([*self.accounts, *self.snapshot_accounts]))


@dataclass(frozen=True)
class NewOmi:
    """An OMI that is to be registered, with all that belongs to it."""

    request: ImageCreate
    """Under its final name."""
    snapshots: Sequence[str]
    """Ids of the snapshots that this build made for it, the root's first."""
    tags: Mapping[str, str]
    """Of OMI and snapshots."""
    snapshot_tags: Mapping[str, str]
    """Of the snapshots; they win over `tags`."""
    share: Share
    description: str


@step("snapshot volume")
async def snapshot_volume(run: OutscaleRun, volume: Volume, description: str, timeout: float) -> Snapshot:
    """Take the snapshot from which the OMI is registered, and wait until it is completed."""
    async with run.creating("snapshot"):
        snapshot = await run.client.create_snapshot(
            volume.volume_id, description=description, client_token=run.token("snapshot")
        )
    await run.put_mark(snapshot.snapshot_id)
    return await wait_for_snapshot(run.client, snapshot.snapshot_id, timeout)


async def omi_named(client: OutscaleClient, account_id: str, name: str) -> Image | None:
    """The account's own OMI of a name, if it has one."""
    async for image in client.images(ImageFilters(account_ids=[account_id], image_names=[name])):
        if image.image_name == name:  # the filter takes `*` and `?` for patterns
            return image
    return None


def _is_ours(run: OutscaleRun, image: Image, mark: Mark) -> bool:
    began = Mark.parse(image.description)
    kept = run.lineage.adopts(began) and began is not None and began.final == mark.final
    return kept or image.description == str(mark) or image.description.endswith(provenance(run.id))


async def register(run: OutscaleRun, request: ImageCreate, account_id: str, mark: Mark) -> Image:
    """Begin an OMI whose description is a mark, or find it again where an earlier try began it.

    Raises:
        NotOurs: another OMI of the account has the name.
    """

    async def find() -> Image:
        if found := await omi_named(run.client, account_id, str(request.image_name)):
            return found
        raise NotFound("there is no such OMI", resource=f"OMI {request.image_name}")

    image = await run.create_once(
        f"OMI {request.image_name}",
        lambda: run.client.create_image(request.model_copy(update={"description": str(mark)})),
        find,
        lambda image: _is_ours(run, image, mark),
        lambda image: f"its id is {image.image_id}, its description is {image.description[:200]!r}",
    )
    begun.made(run.mark, f"OMI {image.image_name} ({image.image_id})", by_hand("image", image.image_id, mark))
    return image


@step("create OMI")
async def create_omi(run: OutscaleRun, request: ImageCreate, account_id: str, timeout: float) -> Image:
    """Register the OMI and wait until it is available. Until the build is through, its description is the mark."""
    created = await register(run, request, account_id, run.mark)
    return await wait_for_omi(run.client, created, timeout)


async def let_in(client: OutscaleClient, image_id: str, accounts: Sequence[str], *, everybody: bool) -> None:
    """Let accounts, or everybody, launch an OMI."""
    if accounts or everybody:
        additions = PermissionsSet(account_ids=list(accounts) or None, global_permission=everybody or None)
        await client.update_image(image_id, permissions=PermissionsChange(additions=additions))


async def let_make_volumes(client: OutscaleClient, snapshot_id: str, accounts: Sequence[str]) -> None:
    """Let accounts make volumes of a snapshot."""
    if accounts:
        change = PermissionsChange(additions=PermissionsSet(account_ids=list(accounts)))
        await client.update_snapshot(snapshot_id, change)


@step("set attributes")
async def set_attributes(run: OutscaleRun, omi: Image, snapshot: Snapshot, share: Share) -> None:
    """Let others launch the OMI, and make volumes of its new snapshot."""
    await let_in(run.client, omi.image_id, share.accounts, everybody=share.everybody)
    await let_make_volumes(run.client, snapshot.snapshot_id, share.of_snapshot)


@step("tag OMI")
async def tag_omi(
    run: OutscaleRun,
    omi: Image,
    snapshots: Sequence[str],
    tags: Mapping[str, str],
    snapshot_tags: Mapping[str, str],
) -> None:
    """Give the user's tags, and pass the commit point: from then on OMI and snapshots are nobody's to remove.

    Args:
        run: The run.
        omi: The OMI.
        snapshots: Ids of the snapshots that this build made for it. Those of its source's other disks are not ours.
        tags: Of the OMI and its snapshots.
        snapshot_tags: Of the snapshots; they win over `tags`.
    """
    if snapshot_tags:
        await run.client.create_tags(snapshots, snapshot_tags)
    if of_omi_alone := {key: value for key, value in tags.items() if key in snapshot_tags}:
        await run.client.create_tags([omi.image_id], of_omi_alone)
    of_both = {key: value for key, value in tags.items() if key not in snapshot_tags}
    await run.client.create_tags([omi.image_id, *snapshots], {**of_both, TAG: ARTIFACT})


@step("describe OMI")
async def describe_omi(run: OutscaleRun, omi: Image, description: str) -> None:
    """Put the user's description in the place of the mark. The last thing, since teardown knows an OMI by its mark."""
    if Mark.parse(omi.description) is not None:
        await run.client.update_image(omi.image_id, description=description)
