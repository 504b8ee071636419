"""What a build asks of the region, and what it makes there: the cases that the plugin gets wrong among them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from blocks.errors import ApiError, DefinitionError, EndedBadly, Forbidden, WaitExpired
from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import (
    Bsu,
    Image,
    ImageCreate,
    ImageDevice,
    PermissionsChange,
    PermissionsSet,
    Snapshot,
    VolumeCreate,
)
from emulators.outscale.region import VENDOR
from emulators.outscale.times import Times
from flows.outscale_image.plan import Plan, make_plan
from tasks.mark import provenance
from tasks.outscale.tokens import ARTIFACT, TAG, values
from tasks.outscale.volumes import create_volume
from tests.conftest import Tune
from tests.tasks.outscale.box import FRIEND, OTHER, Box, CutClient, opened
from tests.tasks.outscale.story import bake
from tests.tasks.outscale.test_cuts import images_named, of_whom


class Recorder(OutscaleClient):
    """A client that remembers what it sent."""

    async def _call(self, action: str, resource: str, body: dict[str, Any], *, repeatable: bool) -> dict[str, Any]:
        self.sent.append((action, body))
        return await super()._call(action, resource, body, repeatable=repeatable)

    @property
    def sent(self) -> list[tuple[str, dict[str, Any]]]:
        found: list[tuple[str, dict[str, Any]]] = self.__dict__.setdefault("_sent", [])
        return found

    def bodies(self, action: str) -> list[dict[str, Any]]:
        return [body for called, body in self.sent if called == action]


def recorder(box: Box) -> Recorder:
    client = box.client(kind=Recorder)
    assert isinstance(client, Recorder)
    return client


async def available(client: OutscaleClient, request: ImageCreate) -> Image:
    made = await client.create_image(request)
    async with asyncio.timeout(20):
        while (seen := await client.image(made.image_id)).state != "available":
            await asyncio.sleep(0.01)
    return seen


async def rich_source(box: Box, account: str | None = None, name: str = "rich", **more: Any) -> Image:
    """An OMI with a data disk, boot modes, a TPM, product codes and a description."""
    client, run = box.client(account), box.run(client=box.client(account))
    source = await client.image((await box.source()).image_id) if account is None else await box.source("public")
    if account is None:
        snapshots = [source.snapshot_ids[0], source.snapshot_ids[0]]
    else:
        request = VolumeCreate(subregion_name="eu-west-2a", client_token=run.token("volume"), size=1)
        volume = await client.create_volume(request)
        made = await client.create_snapshot(volume.volume_id, description="", client_token=run.token("snapshot"))
        async with asyncio.timeout(20):
            while (await client.snapshot(made.snapshot_id)).state != "completed":
                await asyncio.sleep(0.01)
        snapshots = [made.snapshot_id, made.snapshot_id]
    request_ = ImageCreate(
        image_name=name,
        description="rich and described",
        architecture="x86_64",
        root_device_name="/dev/sda1",
        block_device_mappings=[
            ImageDevice(device_name="/dev/sda1", bsu=Bsu(snapshot_id=snapshots[0], volume_type="io1", iops=150)),
            ImageDevice(device_name="/dev/sdb", bsu=Bsu(snapshot_id=snapshots[1], delete_on_vm_deletion=False)),
        ],
        boot_modes=["uefi", "legacy"],
        tpm_mandatory=True,
        product_codes=["0002"],
        **more,
    )
    return await available(client, request_)


async def plan_of(box: Box, **options: Any) -> Plan:
    return await make_plan(box.run(), await box.definition(**options))


SNAPSHOT = Snapshot(snapshot_id="snap-0000beef", state="completed", volume_size=7)


class TestCarriedOver:
    async def test_all_that_the_source_says_is_carried_over(self, box: Box) -> None:
        source = await rich_source(box)
        plan = await plan_of(box, source_omi=source.image_id)
        request = plan.omi(source, SNAPSHOT).request
        assert (request.boot_modes, request.tpm_mandatory, request.product_codes, request.architecture) == (
            ["uefi", "legacy"], True, ["0002"], "x86_64",
        )  # fmt: skip
        assert plan.description == f"rich and described {provenance(plan.run.id)}"
        root, data = [device.bsu for device in request.block_device_mappings or []]
        assert root == Bsu(
            snapshot_id="snap-0000beef", volume_size=7, volume_type="io1", iops=150, delete_on_vm_deletion=True
        )
        assert data == source.block_device_mappings[1].bsu
        volume = plan.volume(source)
        assert (volume.volume_type, volume.iops, volume.size) == ("io1", 150, 1)

    async def test_unless_the_definition_says_else(self, box: Box) -> None:
        source = await rich_source(box)
        plan = await plan_of(
            box,
            source_omi=source.image_id,
            omi_boot_modes=["legacy"],
            omi_tpm_mandatory=False,
            omi_description="of {{.SourceOMIName}} in {{.BuildRegion}}",
            omi_architecture="i386",
            product_codes=[],
            root_volume_size=9,
            root_volume_type="gp2",
        )
        request = plan.omi(source, SNAPSHOT).request
        assert (request.boot_modes, request.tpm_mandatory, request.product_codes, request.architecture) == (
            ["legacy"], None, [], "i386",
        )  # fmt: skip
        assert plan.description.startswith("of rich in eu-west-2 (")
        assert request.block_device_mappings is not None
        root = request.block_device_mappings[0].bsu
        assert root is not None
        assert (root.volume_type, root.iops) == ("gp2", None), "the type is the OMI's, too"
        volume = plan.volume(source)
        assert (volume.volume_type, volume.iops, volume.size) == ("gp2", None, 9)
        assert "Iops" not in volume.model_dump(by_alias=True, exclude_none=True)

    async def test_the_default_name_is_cut_in_the_sources_name(self, tmp_path: Path, tune: Tune) -> None:
        async with opened(tmp_path / "region", tune, own=["b" * 120]) as box:
            plan = await plan_of(box, source_omi=(await box.source("b" * 120)).image_id)
        assert len(plan.name) == 128
        assert plan.name.endswith(plan.run.mark.tail)


class TestBeforeAnythingIsMade:
    async def test_all_that_the_region_can_tell_comes_at_once(self, box: Box) -> None:
        await bake(box.run(), await box.definition(omi_name="taken"))
        before = await of_whom(box)
        with pytest.raises(DefinitionError) as caught:
            await plan_of(
                box,
                omi_name="taken",
                omi_regions=["us-east-2"],
                root_volume_type="io1",
                nvme_device_path="/dev/null",
                tags={"k": "x" * 250 + "{{.SourceOMI}}"},
            )
        assert {mistake.option for mistake in caught.value.mistakes} == {
            "omi_name", "omi_regions[0]", "root_volume_type", "nvme_device_path", "tags.k",
        }  # fmt: skip
        assert "force_deregister" in str(caught.value)
        assert await of_whom(box) == before

    async def test_a_volume_smaller_than_its_source_is_an_error(self, tmp_path: Path, tune: Tune) -> None:
        async with opened(tmp_path / "region", tune) as box:
            big = await bake(box.run(), await box.definition(omi_name="big", root_volume_size=3))
            with pytest.raises(DefinitionError, match="must be at least the source OMI's size, 3 GiB — given: 2"):
                await plan_of(box, source_omi=big.image_id, root_volume_size=2)

    @pytest.mark.parametrize(
        ("missing", "named"),
        [({"source_omi": "ami-00000bad"}, "ami-00000bad"), ({"source_omi_filter": {"owners": [OTHER]}}, OTHER)],
    )
    async def test_a_source_that_is_not_there_is_the_definitions_mistake(
        self, box: Box, missing: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(DefinitionError) as caught:
            await plan_of(box, omi_regions=["us-east-2"], **missing)
        assert {mistake.option for mistake in caught.value.mistakes} == {*missing, "omi_regions[0]"}
        assert any(named in mistake.value for mistake in caught.value.mistakes)

    async def test_a_failing_look_at_the_account_is_an_error_of_ours(self, box: Box) -> None:
        await box.fault(operation="ReadAccounts", kind="status", status=403, count=None)
        with pytest.raises(Forbidden, match="ReadAccounts"):
            await plan_of(box)

    async def test_it_takes_few_requests_and_none_for_a_name_that_only_this_run_can_have(self, box: Box) -> None:
        for options, requests in (({}, 3), ({"omi_name": "web"}, 4)):
            client = recorder(box)
            await make_plan(box.run(client=client), await box.definition(**options))
            assert client.requests == requests

    async def test_the_plan_says_what_will_be_done(self, box: Box) -> None:
        old = await bake(box.run(), await box.definition(omi_name="web"))
        plan = await plan_of(
            box,
            omi_name="web",
            force_deregister=True,
            source_omi=(await box.source("public")).image_id,
            global_permission=True,
            tags={"team": "web"},
            skip_region_validation=True,
            provisioners=[{"type": "shell", "name": "install", "inline": ["true"]}],
        )
        report = plan.report()
        for text in (
            box.owner.account_id, "i-00000001 in eu-west-2a", f"copied first from account {VENDOR}", "1 GiB, standard",
            "install", old.image_id, "everybody", "team=web", "Warning: skip_region_validation does nothing",
        ):  # fmt: skip
            assert text in report

    async def test_only_this_accounts_omis_count_for_a_name(self, box: Box) -> None:
        """Another account's OMI of that name, which everybody sees, is neither in the way nor ever deleted."""
        theirs = await rich_source(box, OTHER, name="web")
        await box.client(OTHER).update_image(theirs.image_id, permissions=everybody())
        await bake(box.run(), await box.definition(omi_name="web", force_deregister=True))
        assert {image.account_id for image in await images_named(box, "web")} == {OTHER, box.owner.account_id}
        await bake(box.run(), await box.definition(omi_name="web", force_deregister=True))
        assert {image.account_id for image in await images_named(box, "web")} == {OTHER, box.owner.account_id}


def everybody() -> PermissionsChange:
    return PermissionsChange(additions=PermissionsSet(global_permission=True))


class TestFromScratch:
    OPTIONS: ClassVar[dict[str, Any]] = {
        "from_scratch": True,
        "root_volume_size": 4,
        "root_device_name": "/dev/sda1",
        "pre_mount_commands": ["mkfs {{.Device}}"],
        "omi_block_device_mappings": [
            {"device_name": "/dev/sda1", "volume_type": "io1", "iops": 300, "delete_on_vm_deletion": True},
            {"device_name": "/dev/sdb", "volume_size": 2, "volume_type": "gp2"},
        ],
    }

    async def test_an_omi_of_its_mappings(self, box: Box) -> None:
        omi = await bake(box.run(), await box.definition(**self.OPTIONS, omi_boot_modes=["uefi"], tags={"a": "b"}))
        assert omi.image_name.startswith("test-")
        assert omi.boot_modes == ["uefi"]
        root, data = [device.bsu for device in omi.block_device_mappings]
        assert root is not None
        assert data is not None
        assert (root.volume_size, root.volume_type, root.iops, root.delete_on_vm_deletion) == (4, "io1", 300, True)
        assert (data.snapshot_id, data.volume_size, data.volume_type, data.delete_on_vm_deletion) == (
            None, 2, "gp2", False,
        )  # fmt: skip
        left = await of_whom(box)
        assert left["snapshots"] == [root.snapshot_id]

    async def test_the_volume_is_empty_and_gp2(self, box: Box) -> None:
        plan = await plan_of(box, **self.OPTIONS)
        assert plan.volume(None).model_dump(exclude_none=True, exclude={"client_token"}) == {
            "subregion_name": "eu-west-2a", "size": 4, "volume_type": "gp2",
        }  # fmt: skip


class TestPermissionsAndTags:
    async def test_who_may_use_what(self, box: Box) -> None:
        client = recorder(box)
        options = {"omi_account_ids": [FRIEND], "snapshot_account_ids": [OTHER], "global_permission": True}
        omi = await bake(box.run(client=client), await box.definition(**options))
        omi = await client.image(omi.image_id)
        snapshot = await client.snapshot(omi.snapshot_ids[0])
        assert omi.permissions_to_launch.account_ids == [FRIEND]
        assert omi.permissions_to_launch.global_permission
        assert snapshot.permissions_to_create_volume.account_ids == [FRIEND, OTHER]
        assert not snapshot.permissions_to_create_volume.global_permission

    async def test_accounts_of_the_snapshot_alone(self, box: Box) -> None:
        client = recorder(box)
        omi = await bake(box.run(client=client), await box.definition(snapshot_account_ids=[OTHER]))
        snapshot = await client.snapshot(omi.snapshot_ids[0])
        assert snapshot.permissions_to_create_volume.account_ids == [OTHER]
        assert len(client.bodies("UpdateImage")) == 1, "the description alone"

    @pytest.mark.parametrize(
        ("tags", "snapshot_tags", "of_omi", "of_snapshot", "requests"),
        [
            ({}, {}, {}, {}, 1),
            ({"a": "1"}, {}, {"a": "1"}, {"a": "1"}, 1),
            ({}, {"s": "2"}, {}, {"s": "2"}, 2),
            ({"a": "1", "b": "1"}, {"b": "2"}, {"a": "1", "b": "1"}, {"a": "1", "b": "2"}, 3),
        ],
    )
    async def test_tags_and_which_win(
        self, box: Box, tags: Any, snapshot_tags: Any, of_omi: Any, of_snapshot: Any, requests: int
    ) -> None:
        client = recorder(box)
        omi = await bake(box.run(client=client), await box.definition(tags=tags, snapshot_tags=snapshot_tags))
        snapshot = await client.snapshot(omi.snapshot_ids[0])
        assert values((await client.image(omi.image_id)).tags) == {**of_omi, TAG: ARTIFACT}
        assert values(snapshot.tags) == {**of_snapshot, TAG: ARTIFACT}
        # Beside the marks of volume and snapshot.
        assert len(client.bodies("CreateTags")) == requests + 2

    async def test_the_sources_other_snapshots_are_nobodys_to_tag(self, box: Box) -> None:
        source = await rich_source(box)
        before = (await box.client().snapshot(source.snapshot_ids[1])).tags
        options = {"source_omi": source.image_id, "tags": {"a": "1"}, "snapshot_tags": {"b": "2"}}
        await bake(box.run(), await box.definition(**options))
        assert (await box.client().snapshot(source.snapshot_ids[1])).tags == before

    async def test_variables_in_tags(self, box: Box) -> None:
        source = await box.source()
        await box.client().create_tags([source.image_id], {"version": "12"})
        texts = {
            "region": "{{.BuildRegion}}",
            "from-{{.SourceOMIName}}": "{{.SourceOMI}}",
            "version": '{{index .SourceOMITags "version"}}{{index .SourceOMITags "none"}}',
        }
        client = recorder(box)
        omi = await bake(box.run(client=client), await box.definition(tags=texts, root_volume_tags=texts))
        rendered = {"region": "eu-west-2", "from-base": source.image_id, "version": "12"}
        assert values((await client.image(omi.image_id)).tags) == {**rendered, TAG: ARTIFACT}
        of_volume = {tag["Key"]: tag["Value"] for tag in client.bodies("CreateTags")[0]["Tags"]}
        assert of_volume.items() > rendered.items()

    async def test_tagging_is_tried_again(self, box: Box) -> None:
        await box.fault(operation="CreateTags", kind="status", status=500, count=3)
        omi = await bake(box.run(), await box.definition(tags={"a": "1"}))
        assert values((await box.client().image(omi.image_id)).tags) == {"a": "1", TAG: ARTIFACT}


class TestRequests:
    async def test_there_is_no_null_in_what_is_sent(self, box: Box) -> None:
        client = recorder(box)
        options = {"snapshot_account_ids": [OTHER], "snapshot_tags": {"a": "b"}, "global_permission": True}
        await bake(box.run(client=client), await box.definition(**options))
        assert "null" not in json.dumps(client.sent)

    async def test_a_create_whose_reply_is_lost_makes_one(self, box: Box) -> None:
        for operation in ("CreateVolume", "CreateSnapshot", "CreateImage"):
            await box.fault(operation=operation, kind="drop_after")
        omi = await bake(box.run(), await box.definition())
        left = await of_whom(box)
        assert left == {"images": [omi.image_name], "snapshots": omi.snapshot_ids, "volumes": []}

    async def test_the_last_tries_refusal_is_told(self, box: Box, tune: Tune) -> None:
        tune(api_retry_time=0.5)
        await box.fault(operation="CreateVolume", kind="status", status=503, count=None, message="full of volumes")
        with pytest.raises(ApiError, match="full of volumes"):
            await bake(box.run(), await box.definition())

    async def test_requests_are_counted(self, box: Box) -> None:
        client = box.client()
        await bake(box.run(client=client), await box.definition())
        assert client.requests == len(await box.operations()) - 1  # that asked for the source


class TestStatesThatNeverPass:
    @pytest.mark.parametrize(
        ("operation", "kind", "match"),
        [
            ("CreateVolume", "volume_error", "the volume is in state error"),
            ("CreateSnapshot", "snapshot_error", "the snapshot is in state error"),
            ("CreateImage", "image_failed", "the OMI failed: "),
        ],
    )
    async def test_end_the_build_at_once_and_leave_nothing(
        self, box: Box, operation: str, kind: str, match: str
    ) -> None:
        await box.fault(operation=operation, kind=kind)
        run = box.run()
        with pytest.raises(EndedBadly, match=match):
            await bake(run, await box.definition())
        await box.gone(run.id)
        assert await of_whom(box) == {"images": [], "snapshots": [], "volumes": []}

    async def test_waits_have_the_definitions_limits(self, tmp_path: Path, tune: Tune) -> None:
        async with opened(tmp_path / "region", tune, times=Times(volume=60)) as box:
            run = box.run()
            definition = await box.definition(volume_wait_timeout=0.3)
            plan = await make_plan(run, definition)
            with pytest.raises(WaitExpired, match="last seen: creating"):
                await create_volume.fn(run, plan.volume(plan.source), {}, definition.volume_wait)

    async def test_what_fails_after_registration_takes_the_omi_and_then_its_snapshot(self, box: Box) -> None:
        await box.fault(operation="UpdateImage", kind="status", status=403, count=None)
        run = box.run()
        with pytest.raises(Forbidden):
            await bake(run, await box.definition(omi_account_ids=[FRIEND]))
        done = len(await box.operations())
        await box.gone(run.id)
        deletes = [name for name in (await box.operations())[done:] if name.startswith("Delete")]
        assert deletes == ["DeleteImage", "DeleteSnapshot"]
        assert await of_whom(box) == {"images": [], "snapshots": [], "volumes": []}


class TestCopies:
    async def test_a_foreign_source_is_copied_and_only_what_the_omi_needs_stays(self, box: Box) -> None:
        theirs = await rich_source(box, OTHER)
        await box.client(OTHER).update_image(theirs.image_id, permissions=everybody())
        client = recorder(box)
        run = box.run(client=client)
        await box.client(OTHER).create_tags([theirs.image_id], {"version": "9"})
        options = {"source_omi": theirs.image_id, "tags": {"from": "{{.SourceOMI}} {{.SourceOMIName}}"}}
        omi = await bake(run, await box.definition(**options))
        copied = client.bodies("CreateImage")[0]
        assert copied["SourceRegionName"] == "eu-west-2"
        assert copied["ImageName"] == run.owned_name("source")
        actions = [action for action, _ in client.sent]
        first = actions.index("CreateImage")
        assert actions[first + 1 : first + 3] == ["ReadSnapshots", "CreateTags"], "before anything else"

        await box.gone(run.id)
        left = await of_whom(box)
        assert left["images"] == ["rich", omi.image_name] or left["images"] == [omi.image_name, "rich"]
        # The root's and the other disk's, which came with the copy; theirs is theirs.
        ours = [identifier for identifier in left["snapshots"] if identifier not in theirs.snapshot_ids]
        assert sorted(ours) == sorted(omi.snapshot_ids)
        for identifier in omi.snapshot_ids:
            assert values((await client.snapshot(identifier)).tags)[TAG] == ARTIFACT
        assert values((await client.image(omi.image_id)).tags)["from"] == f"{theirs.image_id} rich"
        assert omi.boot_modes == theirs.boot_modes

    async def test_an_own_source_is_not_copied(self, box: Box) -> None:
        client = box.client(kind=CutClient)
        await bake(box.run(client=client), await box.definition())
        assert isinstance(client, CutClient)
        assert client.said.count("CreateImage") == 1


class TestReplacing:
    async def test_old_snapshots_go_last_and_only_when_asked(self, box: Box) -> None:
        old = await bake(box.run(), await box.definition(omi_name="web"))
        client = box.client(kind=CutClient)
        options = {"omi_name": "web", "force_deregister": True, "force_delete_snapshot": True}
        new = await bake(box.run(client=client), await box.definition(**options))
        assert isinstance(client, CutClient)
        assert client.said[-1] == "DeleteSnapshot"
        left = await of_whom(box)
        assert left["snapshots"] == new.snapshot_ids
        assert old.image_id != new.image_id

    async def test_a_snapshot_that_something_uses_does_not_stop_it(self, box: Box) -> None:
        """An OMI that is built upon itself, whose other disk's snapshot the new one has as well."""
        source = await rich_source(box, name="web")
        options = {
            "source_omi": source.image_id, "omi_name": "web", "force_deregister": True, "force_delete_snapshot": True,
        }  # fmt: skip
        client = recorder(box)
        new = await bake(box.run(client=client), await box.definition(**options))
        (omi,) = await images_named(box, "web")
        assert omi.image_id == new.image_id
        assert omi.block_device_mappings[1] == source.block_device_mappings[1]
        asked = {body["SnapshotId"] for body in client.bodies("DeleteSnapshot")}
        assert not asked & set(omi.snapshot_ids)

    async def test_nor_does_one_that_another_omi_uses(self, box: Box) -> None:
        old = await bake(box.run(), await box.definition(omi_name="web"))
        other = ImageCreate(
            image_name="other", root_device_name="/dev/sda1", block_device_mappings=old.block_device_mappings
        )
        await available(box.client(), other)
        options = {"omi_name": "web", "force_deregister": True, "force_delete_snapshot": True}
        client = recorder(box)
        new = await bake(box.run(client=client), await box.definition(**options))
        assert [body["SnapshotId"] for body in client.bodies("DeleteSnapshot")] == old.snapshot_ids
        assert sorted((await of_whom(box))["snapshots"]) == sorted(old.snapshot_ids + new.snapshot_ids)

    async def test_an_old_omi_that_cannot_be_deleted_stays_and_the_new_one_goes(self, box: Box) -> None:
        old = await bake(box.run(), await box.definition(omi_name="web"))
        run = box.run()
        await box.fault(operation="DeleteImage", kind="status", status=403)
        with pytest.raises(Forbidden):
            await bake(run, await box.definition(omi_name="web", force_deregister=True))
        await box.gone(run.id)
        left = await of_whom(box)
        assert left == {"images": ["web"], "snapshots": old.snapshot_ids, "volumes": []}

    async def test_what_cannot_be_finished_says_how_and_keeps_the_new_omi(self, box: Box, tune: Tune) -> None:
        await bake(box.run(), await box.definition(omi_name="web"))
        run = box.run()
        # The first registers the temporary name, the second the final one.
        await box.fault(operation="CreateImage", kind="status", status=403, skip=1, count=None)
        with pytest.raises(Forbidden):
            await bake(run, await box.definition(omi_name="web", force_deregister=True))
        tune(teardown_timeout=0.5)
        removal = await box.gone(run.id, timeout=1)
        ((kept, _),) = removal.left.items()
        assert "register it from the snapshots" in kept.remove_by_hand
        left = await of_whom(box)
        assert left["images"] == [run.owned_name("omi")]
        (temporary,) = await images_named(box, run.owned_name("omi"))
        assert set(temporary.snapshot_ids) <= set(left["snapshots"])

    async def test_without_an_old_one_there_is_no_detour(self, box: Box) -> None:
        client = box.client(kind=CutClient)
        await bake(box.run(client=client), await box.definition(omi_name="web", force_deregister=True))
        assert isinstance(client, CutClient)
        assert client.said.count("CreateImage") == 1


async def test_a_dead_connection_is_no_end_of_a_build(box: Box) -> None:
    for operation in ("ReadVolumes", "ReadSnapshots", "CreateTags", "UpdateImage"):
        await box.fault(operation=operation, kind="drop_before")
    omi = await bake(box.run(), await box.definition())
    assert omi.state == "available"
