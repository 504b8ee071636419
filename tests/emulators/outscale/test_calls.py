"""The calls, their rules and their errors. Every request and reply is checked against the document on the way."""

from __future__ import annotations

from typing import Any

import pytest

from emulators.outscale import errors, searchable
from emulators.outscale.actions import ACTIONS
from emulators.outscale.times import Times
from emulators.region.sources import GIB, Source
from tests.emulators.outscale.api_document import ApiDocument, error_table
from tests.emulators.outscale.kitchen import SUBREGION, VM, Client, Json, Kitchen, until


async def test_the_account_and_the_place(client: Client) -> None:
    accounts = (await client.call("ReadAccounts"))["Accounts"]
    assert [account["AccountId"] for account in accounts] == [client.account.account_id]
    assert (await client.call("ReadRegions"))["Regions"][0]["RegionName"] == "eu-west-2"
    found = await client.call("ReadSubregions", Filters={"SubregionNames": [SUBREGION]})
    assert [subregion["SubregionName"] for subregion in found["Subregions"]] == [SUBREGION]


async def test_the_vm_shows_its_devices(client: Client) -> None:
    vm = (await client.call("ReadVms", Filters={"VmIds": [VM]}))["Vms"][0]
    assert (vm["State"], vm["Placement"]["SubregionName"]) == ("running", SUBREGION)
    assert [mapping["DeviceName"] for mapping in vm["BlockDeviceMappings"]] == ["/dev/sda1"]
    await client.link(await client.volume(), "/dev/xvdb")
    vm = (await client.call("ReadVms", Filters={"BlockDeviceMappingDeviceNames": ["/dev/xvdb"]}))["Vms"][0]
    assert [mapping["DeviceName"] for mapping in vm["BlockDeviceMappings"]] == ["/dev/sda1", "/dev/xvdb"]
    assert (await client.call("ReadVms", Filters={"VmIds": ["i-ffffffff"]}))["Vms"] == []


async def test_a_volume_is_creating_then_available(client: Client) -> None:
    made = (await client.call("CreateVolume", SubregionName=SUBREGION, Size=2, VolumeType="io1", Iops=100))["Volume"]
    assert (made["State"], made["Iops"]) == ("creating", 100)
    seen = await client.volume_becomes(made, "available")
    assert seen["Size"] == 2
    record = client.region.volumes.get(made["VolumeId"])
    assert record is not None
    assert client.region.path(record).stat().st_size == 2 * GIB
    await client.call("DeleteVolume", VolumeId=made["VolumeId"])
    await until(_gone(client, made))
    assert not list(client.region.path(record).parent.iterdir())


def _gone(client: Client, volume: Json) -> Any:
    async def look() -> bool:
        return await client.read_volume(volume) is None

    return look


async def test_a_volume_of_a_snapshot_has_its_content_and_may_be_bigger(client: Client) -> None:
    volume = await client.volume_of_image(Size=3)
    with client.region.path(client.region.volumes.get(volume["VolumeId"])).open("rb") as file:  # type: ignore[arg-type]
        assert file.read(512)[510:] == b"\x55\xaa"
        assert file.seek(0, 2) == 3 * GIB


async def test_a_client_token_makes_creates_repeatable_and_findable(client: Client) -> None:
    first = await client.volume(ClientToken="run-1-volume")
    again = await client.call("CreateVolume", SubregionName=SUBREGION, Size=1, ClientToken="run-1-volume")
    assert again["Volume"]["VolumeId"] == first["VolumeId"]
    found = await client.call("ReadVolumes", Filters={"ClientTokens": ["run-1-volume"]})
    assert [volume["VolumeId"] for volume in found["Volumes"]] == [first["VolumeId"]]
    other = {"SubregionName": SUBREGION, "Size": 1, "VolumeType": "gp2", "ClientToken": "run-1-volume"}
    assert await client.refused("CreateVolume", **other) == (400, "4091")

    snapshot = await client.snapshot(first, ClientToken="run-1-snapshot")
    repeated = (await client.call("CreateSnapshot", VolumeId=first["VolumeId"], ClientToken="run-1-snapshot"))[
        "Snapshot"
    ]
    assert repeated["SnapshotId"] == snapshot["SnapshotId"]
    found = await client.call("ReadSnapshots", Filters={"ClientTokens": ["run-1-snapshot"]})
    assert len(found["Snapshots"]) == 1


@pytest.mark.parametrize(
    ("action", "body", "code"),
    [
        ("CreateVolume", {"Size": 1}, "7000"),
        ("CreateVolume", {"SubregionName": SUBREGION}, "7000"),
        ("CreateVolume", {"SubregionName": SUBREGION, "Size": "1"}, "4108"),
        ("CreateVolume", {"SubregionName": SUBREGION, "Size": 0}, "4078"),
        ("CreateVolume", {"SubregionName": SUBREGION, "Size": 14902}, "4078"),
        ("CreateVolume", {"SubregionName": "mars-1a", "Size": 1}, "5009"),
        ("CreateVolume", {"SubregionName": SUBREGION, "Size": 1, "Nonsense": 1}, "3001"),
        ("CreateVolume", {"SubregionName": SUBREGION, "Size": 1, "Iops": 100}, "4029"),
        ("CreateVolume", {"SubregionName": SUBREGION, "Size": 1, "VolumeType": "io1", "Iops": 301}, "4029"),
        ("CreateVolume", {"SubregionName": SUBREGION, "Size": 1, "VolumeType": "fast"}, "4047"),
        ("CreateVolume", {"SubregionName": SUBREGION, "SnapshotId": "snap-00000000"}, "5054"),
        ("CreateVolume", {"SubregionName": SUBREGION, "Size": 1, "ClientToken": "a" * 65}, "4047"),
        ("LinkVolume", {"VolumeId": "vol-00000000", "VmId": VM, "DeviceName": "/dev/xvdb"}, "5064"),
        ("LinkVolume", {"VolumeId": "vol-00000000", "VmId": VM, "DeviceName": "/dev/sda1"}, "4019"),
        ("UnlinkVolume", {"VolumeId": "vol-00000000"}, "5064"),
        ("CreateSnapshot", {}, "7000"),
        ("CreateSnapshot", {"VolumeId": "vol-00000000"}, "5064"),
        ("DeleteSnapshot", {"SnapshotId": "snap-00000000"}, "5054"),
        ("CreateImage", {"ImageName": "ab"}, "4026"),
        ("CreateImage", {"ImageName": "tilde~"}, "4026"),
        ("CreateImage", {"ImageName": "good"}, "7000"),
        ("CreateImage", {"SourceImageId": "ami-00000000", "SourceRegionName": "us-east-2"}, "8019"),
        ("CreateImage", {"SourceImageId": "ami-00000000", "SourceRegionName": "eu-west-2"}, "5023"),
        ("CreateImage", {"ImageName": "good", "VmId": VM}, "8000"),
        ("DeleteImage", {"ImageId": "ami-00000000"}, "5023"),
        ("CreateTags", {"ResourceIds": ["eni-00000000"], "Tags": [{"Key": "a", "Value": "b"}]}, "5044"),
        ("CreateTags", {"ResourceIds": ["toto"], "Tags": [{"Key": "a", "Value": "b"}]}, "4025"),
        ("CreateTags", {"ResourceIds": [], "Tags": [{"Key": "a", "Value": "b"}]}, "7000"),
        ("CreateTags", {"ResourceIds": ["i-00000009"], "Tags": [{"Key": "a", "Value": "b"}]}, "5063"),
        ("CreateTags", {"ResourceIds": [VM], "Tags": [{"Key": "", "Value": "b"}]}, "4069"),
        ("ReadVolumes", {"Filters": {"Nonsense": ["x"]}}, "3001"),
        ("ReadVolumes", {"Filters": {"VolumeIds": "vol-00000000"}}, "4108"),
        ("ReadVolumes", {"ResultsPerPage": 1001}, "4047"),
        ("ReadVolumes", {"NextPageToken": "????"}, "4047"),
    ],
)
async def test_wrong_requests_have_the_code_of_the_table(client: Client, action: str, body: Json, code: str) -> None:
    assert await client.refused(action, **body) == (400, code)


async def test_what_is_no_json_object_or_no_call_is_refused(client: Client) -> None:
    response = await client.http.post("/api/v1/ReadVms", content=b"[]")
    assert (response.status_code, response.json()["Errors"][0]["Code"]) == (400, "4047")
    response = await client.http.post("/api/v1/BakeImage", json={})
    assert (response.status_code, response.json()["Errors"][0]["Code"]) == (400, "8000")
    assert (await client.http.get("/api/v1/ReadVms")).status_code == 405


async def test_nulls_count_as_absent(client: Client) -> None:
    # The document's schema does not allow them, but clients in use send them.
    found = await client.send("ReadImages", Filters={"AccountIds": None, "ImageNames": ["deb*"]}, NextPageToken=None)
    assert len(found.json()["Images"]) == 1


async def test_a_dry_run_does_nothing(client: Client) -> None:
    assert (await client.call("CreateVolume", SubregionName=SUBREGION, Size=1, DryRun=True)).keys() == {
        "ResponseContext"
    }
    assert (await client.call("ReadVolumes"))["Volumes"] == []
    assert (await client.call("ReadVms", DryRun=True)).keys() == {"ResponseContext"}


async def test_link_states_and_their_rules(client: Client) -> None:
    volume, other = await client.volume(), await client.volume(SubregionName="eu-west-2b")
    assert await client.refused("UnlinkVolume", VolumeId=volume["VolumeId"]) == (409, "9063")
    elsewhere = {"VolumeId": other["VolumeId"], "VmId": VM, "DeviceName": "/dev/xvdc"}
    assert await client.refused("LinkVolume", **elsewhere) == (409, "9071")
    nowhere = {"VolumeId": volume["VolumeId"], "VmId": "i-00000009", "DeviceName": "/dev/xvdc"}
    assert await client.refused("LinkVolume", **nowhere) == (400, "5063")
    await client.call("LinkVolume", VolumeId=volume["VolumeId"], VmId=VM, DeviceName="/dev/xvdc")
    assert await client.refused("DeleteVolume", VolumeId=volume["VolumeId"]) == (400, "6007")
    linked = await client.volume_becomes(volume, "in-use", "attached")
    assert linked["LinkedVolumes"][0]["VmId"] == VM
    again = {"VolumeId": volume["VolumeId"], "VmId": VM, "DeviceName": "/dev/xvdd"}
    assert await client.refused("LinkVolume", **again) == (400, "6007")
    third = await client.volume()
    taken = {"VolumeId": third["VolumeId"], "VmId": VM, "DeviceName": "/dev/xvdc"}
    assert await client.refused("LinkVolume", **taken) == (409, "9004")
    await client.unlink(volume)


async def test_delays_are_kept_and_states_passed_through(kitchen: Kitchen) -> None:
    async with kitchen.open(times=Times(volume=1, link=1, unlink=1, snapshot=1, image=1)) as client:
        volume = (await client.call("CreateVolume", SubregionName=SUBREGION, Size=1))["Volume"]
        assert (await client.read_volume(volume) or {})["State"] == "creating"
        assert await client.refused("DeleteVolume", VolumeId=volume["VolumeId"]) == (400, "6007")
        await client.volume_becomes(volume, "available")
        await client.call("LinkVolume", VolumeId=volume["VolumeId"], VmId=VM, DeviceName="/dev/xvdb")
        await client.volume_becomes(volume, "in-use", "attaching")
        await client.volume_becomes(volume, "in-use", "attached")
        await client.call("UnlinkVolume", VolumeId=volume["VolumeId"])
        await client.volume_becomes(volume, "in-use", "detaching")
        await client.volume_becomes(volume, "available")
        snapshot = await client.snapshot(volume, "pending")
        assert await client.refused("DeleteSnapshot", SnapshotId=snapshot["SnapshotId"]) == (400, "6003")
        snapshot = await client.snapshot(volume)
        image = await client.registered("slowly", snapshot)
        assert image["State"] == "pending"
        await client.image_becomes(image, "available")


async def test_an_image_keeps_its_snapshot(client: Client) -> None:
    snapshot = await client.snapshot(await client.volume(), Description="root")
    image = await client.registered(
        "my image (1)/2", snapshot, Description="mine", BootModes=["uefi", "legacy"], TpmMandatory=True
    )
    image = await client.image_becomes(image, "available")
    assert (image["BootModes"], image["TpmMandatory"], image["RootDeviceType"]) == (["uefi", "legacy"], True, "bsu")
    assert await client.refused("DeleteSnapshot", SnapshotId=snapshot["SnapshotId"]) == (409, "9002")
    mappings = [{"DeviceName": "/dev/sda1", "Bsu": {"SnapshotId": snapshot["SnapshotId"]}}]
    same = {"ImageName": "my image (1)/2", "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": mappings}
    assert await client.refused("CreateImage", **same) == (409, "9015")
    assert await client.refused("CreateImage", **{**same, "ImageName": "x y", "RootDeviceName": "/dev/sdb"}) == (
        400,
        "4019",
    )
    await client.call("DeleteImage", ImageId=image["ImageId"])
    await client.call("DeleteSnapshot", SnapshotId=snapshot["SnapshotId"])
    assert (await client.call("ReadSnapshots", Filters={"Descriptions": ["root"]}))["Snapshots"] == []


async def test_a_snapshot_outlives_a_volume_that_is_deleted_at_once(client: Client) -> None:
    volume = await client.volume_of_image()
    made = (await client.call("CreateSnapshot", VolumeId=volume["VolumeId"]))["Snapshot"]
    await client.call("DeleteVolume", VolumeId=volume["VolumeId"])

    async def completed() -> bool:
        found = await client.call("ReadSnapshots", Filters={"SnapshotIds": [made["SnapshotId"]]})
        return bool(found["Snapshots"][0]["State"] == "completed")

    await until(completed)


async def test_another_account_needs_permission(kitchen: Kitchen) -> None:
    async with kitchen.open(other_accounts=["000000000042"]) as client:
        other = client.region.accounts[1]
        async with kitchen.client(client.served, other) as stranger:
            volume = await client.volume()
            snapshot = await client.snapshot(volume)
            image = await client.image_becomes(await client.registered("shared", snapshot), "available")
            assert (await stranger.call("ReadImages"))["Images"] == []
            assert (await stranger.call("ReadVms"))["Vms"] == []
            assert await stranger.refused("DeleteVolume", VolumeId=volume["VolumeId"]) == (400, "5064")
            assert await stranger.refused("DeleteImage", ImageId=image["ImageId"]) == (400, "5023")
            allow = {"Additions": {"AccountIds": [other.account_id]}}
            await client.call("UpdateImage", ImageId=image["ImageId"], PermissionsToLaunch=allow, Description="for you")
            seen = (await stranger.call("ReadImages"))["Images"][0]
            assert (seen["AccountId"], seen["Description"]) == (client.account.account_id, "for you")
            assert await stranger.refused("DeleteImage", ImageId=image["ImageId"]) == (401, "5")
            make = {"SubregionName": SUBREGION, "SnapshotId": snapshot["SnapshotId"]}
            assert await stranger.refused("CreateVolume", **make) == (400, "5054")
            everyone = {"Additions": {"GlobalPermission": True}}
            await client.call("UpdateSnapshot", SnapshotId=snapshot["SnapshotId"], PermissionsToCreateVolume=everyone)
            await stranger.volume(SnapshotId=snapshot["SnapshotId"])
            copied = {"SourceImageId": image["ImageId"], "SourceRegionName": "eu-west-2", "ImageName": "a copy"}
            copy = await stranger.image_becomes((await stranger.call("CreateImage", **copied))["Image"], "available")
            mine = copy["BlockDeviceMappings"][0]["Bsu"]["SnapshotId"]
            assert mine != snapshot["SnapshotId"]
            found = (await stranger.call("ReadSnapshots", Filters={"AccountIds": [other.account_id]}))["Snapshots"]
            assert [(s["SnapshotId"], s["State"]) for s in found] == [(mine, "completed")]
            both: Json = {"Additions": {}, "Removals": {}}
            assert await client.refused("UpdateImage", ImageId=image["ImageId"], PermissionsToLaunch=both) == (
                400,
                "3002",
            )
            deny = {"Removals": {"AccountIds": [other.account_id]}}
            await client.call("UpdateImage", ImageId=image["ImageId"], PermissionsToLaunch=deny)
            assert len((await stranger.call("ReadImages"))["Images"]) == 1


async def test_public_images_belong_to_someone_else(kitchen: Kitchen) -> None:
    async with kitchen.open(sources=[], public_sources=[Source.read(kitchen.source)]) as client:
        image = await client.image()
        assert image["AccountId"] != client.account.account_id
        assert image["PermissionsToLaunch"]["GlobalPermission"] is True
        assert (image["AccountAlias"], image["FileLocation"]) == ("Outscale", "Outscale/debian-12")
        found = await client.call("ReadImages", Filters={"AccountAliases": ["Outscale"]})
        assert [one["ImageId"] for one in found["Images"]] == [image["ImageId"]]
        # Its snapshot is not: who wants the blocks copies the OMI.
        snapshot_id = image["BlockDeviceMappings"][0]["Bsu"]["SnapshotId"]
        make = {"SubregionName": SUBREGION, "SnapshotId": snapshot_id}
        assert await client.refused("CreateVolume", **make) == (400, "5054")
        copied = {"SourceImageId": image["ImageId"], "SourceRegionName": "eu-west-2", "ImageName": "mine"}
        copy = await client.image_becomes((await client.call("CreateImage", **copied))["Image"], "available")
        assert "AccountAlias" not in copy
        mine = copy["BlockDeviceMappings"][0]["Bsu"]["SnapshotId"]
        await client.volume(SnapshotId=mine)


async def test_tags_are_found_changed_and_removed(client: Client) -> None:
    volume, other = await client.volume(), await client.volume()
    ids = [volume["VolumeId"], other["VolumeId"], VM]
    await client.call("CreateTags", ResourceIds=ids, Tags=[{"Key": "mark", "Value": "run=1"}])
    await client.call("CreateTags", ResourceIds=[ids[0]], Tags=[{"Key": "mark", "Value": "artifact"}])

    async def with_filter(**which: Any) -> list[str]:
        found = await client.call("ReadVolumes", Filters=which)
        return sorted(volume["VolumeId"] for volume in found["Volumes"])

    assert await with_filter(Tags=["mark=run=1"]) == [ids[1]]
    assert await with_filter(TagKeys=["mark"]) == sorted(ids[:2])
    assert await with_filter(TagValues=["artifact"]) == [ids[0]]
    tags = (await client.call("ReadTags", Filters={"Keys": ["mark"], "ResourceTypes": ["volume"]}))["Tags"]
    assert sorted(tag["Value"] for tag in tags) == ["artifact", "run=1"]
    await client.call("DeleteTags", ResourceIds=ids, Tags=[{"Key": "mark", "Value": "run=1"}])
    left = (await client.call("ReadTags"))["Tags"]
    assert [(tag["ResourceId"], tag["Value"]) for tag in left] == [(ids[0], "artifact")]
    wrong = {"ResourceIds": [ids[0], "vol-00000000"], "Tags": [{"Key": "half", "Value": "done"}]}
    assert await client.refused("CreateTags", **wrong) == (400, "5064")
    assert await with_filter(TagKeys=["half"]) == []


async def test_a_volume_grows_and_never_shrinks(client: Client) -> None:
    volume = await client.volume(Size=2)
    grown = (await client.call("UpdateVolume", VolumeId=volume["VolumeId"], Size=3))["Volume"]
    assert grown["Size"] == 3
    assert await client.refused("UpdateVolume", VolumeId=volume["VolumeId"], Size=1) == (400, "4078")


async def test_what_was_made_is_there_after_a_restart(kitchen: Kitchen) -> None:
    async with kitchen.open() as client:
        volume = await client.volume(ClientToken="kept")
        await client.link(volume, "/dev/xvdb")
        image = await client.image()
    async with kitchen.open() as client:
        assert (await client.volume_becomes(volume, "in-use", "attached"))["ClientToken"] == "kept"
        assert (await client.image())["ImageId"] == image["ImageId"]


def test_the_region_knows_the_document_s_filters_and_calls(api_document: ApiDocument | None) -> None:
    if api_document is None:
        pytest.skip("neither the specs directory nor osc-sdk-python has the API document")
    assert set(ACTIONS) <= set(api_document.paths)
    for name, action in ACTIONS.items():
        fields = {field.alias for field in action.body.model_fields.values()}
        assert fields == set(api_document.schema(f"{name}Request")["properties"]), name
        assert action.is_open == (api_document.paths[name]["post"].get("security") == [])
    tables = {
        "FiltersImage": searchable.images(lambda _: None),
        "FiltersVolume": searchable.VOLUMES,
        "FiltersSnapshot": searchable.snapshots(lambda _: None),
        "FiltersTag": searchable.TAGS,
        "FiltersSubregion": searchable.SUBREGIONS,
        "FiltersVm": searchable.VMS,
        "FiltersQuota": searchable.QUOTAS,
    }
    kinds = {"string": {"text", "glob", "moment"}, "integer": {"number"}}
    for schema, table in tables.items():
        documented = api_document.schema(schema)["properties"]
        assert set(table) == set(documented), schema
        for name, told in documented.items():
            if told["type"] == "array":
                item = api_document.resolved(told["items"])
                assert table[name].kind in kinds[item.get("type", "string")], name
            else:
                assert table[name].kind in {"boolean": {"flag"}, "string": {"since", "until"}}[told["type"]], name


def test_error_codes_and_types_are_those_of_the_table() -> None:
    table = error_table()
    if table is None:
        pytest.skip("neither the specs directory nor osc-sdk-python has the error table")
    numbers = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    # The cloud has these, too, but its table does not.
    numbers -= {errors.WRONG_LOGIN, errors.OTHER_REGION}
    for code in [*numbers, *errors.QUOTAS.values(), *errors._NO_SUCH.values(), *errors._STATES.values()]:
        assert errors.of_code(code).kind == table[code]["Type"], code
