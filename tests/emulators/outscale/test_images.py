"""OMIs: the forms of CreateImage, copies, permissions and filters."""

from __future__ import annotations

from typing import Any

import pytest

from emulators.outscale.region import VENDOR
from emulators.region.sources import GIB, Source
from tests.emulators.outscale.kitchen import SUBREGION, VM, Client, Json, Kitchen

_OTHER = "000000000042"


def _mapping(device: str, **bsu: Any) -> Json:
    return {"DeviceName": device, "Bsu": bsu}


async def _snapshot_id(client: Client) -> str:
    return str((await client.image())["BlockDeviceMappings"][0]["Bsu"]["SnapshotId"])


async def test_an_omi_has_what_it_was_registered_with(client: Client) -> None:
    snapshot_id = await _snapshot_id(client)
    mappings = [
        _mapping("/dev/sda1", SnapshotId=snapshot_id, VolumeSize=4, VolumeType="io1", Iops=1200),
        _mapping("/dev/xvdb", VolumeSize=2, DeleteOnVmDeletion=False),
        {"DeviceName": "/dev/sdc", "VirtualDeviceName": "ephemeral0"},
    ]
    image = (
        await client.call(
            "CreateImage",
            ImageName="whole",
            Architecture="i386",
            RootDeviceName="/dev/sda1",
            BlockDeviceMappings=mappings,
            BootModes=["uefi"],
            ProductCodes=["0001", "0002"],
            TpmMandatory=True,
            Description="all of it",
        )
    )["Image"]
    root, data, virtual = image["BlockDeviceMappings"]
    assert root["Bsu"] == {**mappings[0]["Bsu"], "DeleteOnVmDeletion": True}
    assert data["Bsu"] == {"VolumeSize": 2, "VolumeType": "standard", "DeleteOnVmDeletion": False}
    assert virtual == mappings[2]
    assert (image["Architecture"], image["BootModes"], image["TpmMandatory"]) == ("i386", ["uefi"], True)
    assert (image["ProductCodes"], image["Description"]) == (["0001", "0002"], "all of it")
    assert image["FileLocation"] == f"{client.account.account_id}/whole"
    assert image["PermissionsToLaunch"] == {"AccountIds": [], "GlobalPermission": False}


async def test_an_omi_that_says_little_has_the_usual(client: Client) -> None:
    snapshot = {"SnapshotId": await _snapshot_id(client)}
    image = await client.registered("plain", snapshot)
    assert (image["Architecture"], image["BootModes"], image["TpmMandatory"]) == ("x86_64", ["legacy"], False)
    assert (image["ProductCodes"], image["Description"]) == (["0001"], "")
    assert image["BlockDeviceMappings"][0]["Bsu"]["VolumeSize"] == 1
    without = await client.registered("without", snapshot, ProductCodes=[])
    assert without["ProductCodes"] == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"VmId": VM, "SourceImageId": "ami-00000000"}, "3002"),
        ({"VmId": VM, "RootDeviceName": "/dev/sda1"}, "3002"),
        ({"SourceImageId": "ami-00000000", "Architecture": "i386"}, "3002"),
        ({"SourceImageId": "ami-00000000", "BlockDeviceMappings": []}, "3002"),
        ({"FileLocation": "https://oos/manifest", "NoReboot": True}, "3002"),
        ({"FileLocation": "https://oos/manifest"}, "8000"),
        ({"SourceImageId": "ami-00000000"}, "7000"),
        ({"SourceRegionName": "eu-west-2"}, "7000"),
        ({"SourceImageId": "tata", "SourceRegionName": "eu-west-2"}, "4104"),
        ({"SourceImageId": "ami-1234", "SourceRegionName": "eu-west-2"}, "4105"),
        ({"RootDeviceName": "/dev/sda1"}, "7000"),
        ({"RootDeviceName": "/dev/xvda"}, "4019"),
        ({"BlockDeviceMappings": []}, "7000"),
        ({"BlockDeviceMappings": [_mapping("/dev/sda1", VolumeSize=2)]}, "4057"),
        ({"BlockDeviceMappings": [_mapping("/dev/xvdb", VolumeSize=2)]}, "4057"),
        ({"BlockDeviceMappings": [_mapping("/dev/sda2", VolumeSize=2)]}, "4019"),
        ({"BlockDeviceMappings": [_mapping("/dev/xvdb", VolumeSize=2)] * 2}, "4011"),
        ({"BlockDeviceMappings": [_mapping("/dev/xvdb")]}, "4011"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/xvdb"}]}, "4011"),
        ({"BlockDeviceMappings": [{"Bsu": {"VolumeSize": 1}}]}, "4011"),
        ({"BlockDeviceMappings": [{**_mapping("/dev/xvdb"), "VirtualDeviceName": "ephemeral0"}]}, "4076"),
        ({"BlockDeviceMappings": [_mapping("/dev/xvdb", VolumeSize=14902)]}, "4078"),
        ({"BlockDeviceMappings": [_mapping("/dev/xvdb", VolumeSize=1, Iops=100)]}, "4029"),
        ({"BlockDeviceMappings": [_mapping("/dev/xvdb", VolumeSize=1, VolumeType="io1")]}, "7000"),
        ({"BlockDeviceMappings": [_mapping("/dev/xvdb", VolumeSize=1, VolumeType="io1", Iops=301)]}, "4029"),
        ({"BlockDeviceMappings": [_mapping("/dev/sda1", SnapshotId="snap-00000000")]}, "5054"),
        ({"BootModes": ["bios"]}, "4047"),
        ({"Architecture": "arm64"}, "4047"),
    ],
)
async def test_an_omi_that_cannot_be_is_refused(client: Client, body: Json, code: str) -> None:
    registers = not {"VmId", "SourceImageId", "SourceRegionName", "FileLocation"} & body.keys()
    if registers and body != {"RootDeviceName": "/dev/sda1"}:
        root = _mapping("/dev/sda1", SnapshotId=await _snapshot_id(client))
        body = {"RootDeviceName": "/dev/sda1", "BlockDeviceMappings": [root], **body}
    assert await client.refused("CreateImage", ImageName="never", **body) == (400, code)
    assert (await client.call("ReadImages", Filters={"ImageNames": ["never"]}))["Images"] == []


async def test_a_root_disk_is_no_smaller_than_its_snapshot(client: Client) -> None:
    snapshot = await client.snapshot(await client.volume(Size=2))
    small = [_mapping("/dev/sda1", SnapshotId=snapshot["SnapshotId"], VolumeSize=1)]
    body = {"ImageName": "small", "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": small}
    assert await client.refused("CreateImage", **body) == (400, "4078")


async def test_no_iops_are_sent_as_zero_by_clients_in_use(client: Client) -> None:
    volume = await client.volume(VolumeType="gp2", Iops=0, Size=50)
    assert volume["Iops"] == 150
    snapshot_id = await _snapshot_id(client)
    root = [_mapping("/dev/sda1", SnapshotId=snapshot_id, VolumeType="standard", Iops=0)]
    await client.call("CreateImage", ImageName="zero", RootDeviceName="/dev/sda1", BlockDeviceMappings=root)


async def test_a_copy_is_the_account_s_own_with_all_its_snapshots(kitchen: Kitchen) -> None:
    async with kitchen.open(sources=[Source.read(kitchen.source)], other_accounts=[_OTHER]) as client:
        volume = await client.volume(Size=2)
        data = await client.snapshot(volume)
        root = await _snapshot_id(client)
        mappings = [
            _mapping("/dev/sda1", SnapshotId=root),
            _mapping("/dev/xvdb", SnapshotId=data["SnapshotId"], VolumeType="gp2"),
            _mapping("/dev/xvdc", SnapshotId=data["SnapshotId"]),
        ]
        original = (
            await client.call(
                "CreateImage",
                ImageName="theirs",
                RootDeviceName="/dev/sda1",
                BlockDeviceMappings=mappings,
                BootModes=["uefi", "legacy"],
                ProductCodes=["0002"],
                TpmMandatory=True,
            )
        )["Image"]
        await client.image_becomes(original, "available")
        await client.call("CreateTags", ResourceIds=[original["ImageId"]], Tags=[{"Key": "a", "Value": "b"}])
        allow = {"Additions": {"AccountIds": [_OTHER]}}
        await client.call("UpdateImage", ImageId=original["ImageId"], PermissionsToLaunch=allow)

        async with kitchen.client(client.served, client.region.accounts[1]) as other:
            asked = {"SourceImageId": original["ImageId"], "SourceRegionName": "eu-west-2"}
            copy = (await other.call("CreateImage", **asked, ImageName="mine", Description="a copy"))["Image"]
            assert copy["State"] == "pending"
            copy = await other.image_becomes(copy, "available")
            assert (copy["AccountId"], copy["ImageName"], copy["Description"]) == (_OTHER, "mine", "a copy")
            assert (copy["BootModes"], copy["ProductCodes"], copy["TpmMandatory"]) == (
                ["uefi", "legacy"],
                ["0002"],
                True,
            )
            assert copy["PermissionsToLaunch"] == {"AccountIds": [], "GlobalPermission": False}
            assert copy["Tags"] == []
            ids = [mapping["Bsu"]["SnapshotId"] for mapping in copy["BlockDeviceMappings"]]
            assert not {root, data["SnapshotId"]} & set(ids)
            assert ids[1] == ids[2] != ids[0]
            mine = (await other.call("ReadSnapshots"))["Snapshots"]
            assert {s["SnapshotId"] for s in mine} == set(ids)
            record = other.region.snapshots.get(ids[0])
            assert record is not None
            with other.region.path(record).open("rb") as file:
                assert file.read(512)[510:] == b"\x55\xaa"
                assert file.seek(0, 2) == GIB

            # Whoever gives no name gets one, as often as they like.
            names = {(await other.call("CreateImage", **asked))["Image"]["ImageName"] for _ in range(2)}
            assert len(names) == 2
            assert all(name.startswith("theirs-copy-") for name in names)


async def test_what_others_are_allowed_is_added_and_taken_away(kitchen: Kitchen) -> None:
    async with kitchen.open(other_accounts=[_OTHER]) as client:
        image_id = (await client.image())["ImageId"]

        async def changed(**change: Json) -> Json:
            reply = await client.call("UpdateImage", ImageId=image_id, PermissionsToLaunch=change)
            return dict(reply["Image"]["PermissionsToLaunch"])

        async with kitchen.client(client.served, client.region.accounts[1]) as other:

            async def seen() -> int:
                return len((await other.call("ReadImages"))["Images"])

            assert await seen() == 0
            both = ["000000000043", _OTHER]
            assert await changed(Additions={"AccountIds": both}) == {"AccountIds": both, "GlobalPermission": False}
            assert await changed(Additions={"AccountIds": [_OTHER]}) == {"AccountIds": both, "GlobalPermission": False}
            assert await seen() == 1
            everyone = await changed(Additions={"GlobalPermission": True})
            assert everyone == {"AccountIds": both, "GlobalPermission": True}
            # Once, though it may see it for two reasons.
            assert await seen() == 1
            assert await changed(Removals={"AccountIds": [_OTHER]}) == {
                "AccountIds": both[:1],
                "GlobalPermission": True,
            }
            assert await seen() == 1
            private = await changed(Removals={"GlobalPermission": True})
            assert private == {"AccountIds": both[:1], "GlobalPermission": False}
            assert await seen() == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, "7000"),
        ({"PermissionsToLaunch": {}}, "7000"),
        ({"PermissionsToLaunch": {"Additions": {}, "Removals": {}}}, "3002"),
        ({"PermissionsToLaunch": {"Additions": {"AccountIds": ["tata"]}}}, "4105"),
        ({"PermissionsToLaunch": {"Additions": {"AccountIds": ["\u0661" * 12]}}}, "4105"),
        ({"PermissionsToLaunch": {"Additions": {"GlobalPermission": "yes"}}}, "4108"),
        ({"PermissionsToLaunch": {"Addition": {}}}, "3001"),
    ],
)
async def test_a_change_that_is_none_is_refused(client: Client, change: Json, code: str) -> None:
    assert await client.refused("UpdateImage", ImageId=(await client.image())["ImageId"], **change) == (400, code)


async def test_a_null_list_of_accounts_is_an_empty_one(client: Client) -> None:
    everyone = {"Additions": {"AccountIds": None, "GlobalPermission": True}}
    reply = await client.send("UpdateImage", ImageId=(await client.image())["ImageId"], PermissionsToLaunch=everyone)
    assert reply.json()["Image"]["PermissionsToLaunch"] == {"AccountIds": [], "GlobalPermission": True}


_FILTERS: list[tuple[Json, list[str]]] = [
    ({}, ["debian-12", "data", "old"]),
    ({"AccountAliases": ["Outscale"]}, ["old"]),
    ({"AccountAliases": ["Outscale", "nobody"], "AccountIds": [VENDOR]}, ["old"]),
    ({"AccountAliases": ["Outscale"], "AccountIds": ["000000000042"]}, []),
    ({"AccountIds": [VENDOR, "000000000009"]}, ["old"]),
    ({"Architectures": ["i386"]}, ["data"]),
    ({"BlockDeviceMappingDeleteOnVmDeletion": False}, ["data"]),
    ({"BlockDeviceMappingDeleteOnVmDeletion": True}, ["debian-12", "data", "old"]),
    ({"BlockDeviceMappingDeviceNames": ["/dev/xvdb"]}, ["data"]),
    ({"BlockDeviceMappingSnapshotIds": ["snap-00000000"]}, []),
    ({"BlockDeviceMappingVolumeSizes": [7]}, ["data"]),
    ({"BlockDeviceMappingVolumeTypes": ["gp2", "io1"]}, ["data"]),
    ({"BootModes": ["uefi"]}, ["data"]),
    ({"Descriptions": ["with data"]}, ["data"]),
    ({"Descriptions": ["with*"]}, []),
    ({"FileLocations": ["Outscale/*"]}, ["old"]),
    ({"Hypervisors": ["xen"]}, ["debian-12", "data", "old"]),
    ({"ImageIds": ["ami-00000000"]}, []),
    ({"ImageIds": []}, []),
    ({"ImageNames": ["d*"]}, ["debian-12", "data"]),
    ({"ImageNames": ["d?ta", "o[l]d"]}, ["data"]),
    ({"ImageNames": ["debian-*"], "States": ["pending"]}, []),
    ({"PermissionsToLaunchAccountIds": ["000000000043"]}, ["data"]),
    ({"PermissionsToLaunchGlobalPermission": True}, ["old"]),
    ({"PermissionsToLaunchGlobalPermission": False}, ["debian-12", "data"]),
    ({"ProductCodeNames": ["Linux"]}, ["debian-12", "old"]),
    ({"ProductCodes": ["0002"]}, ["data"]),
    ({"RootDeviceNames": ["/dev/sda1"]}, ["debian-12", "data", "old"]),
    ({"RootDeviceTypes": ["ebs"]}, ["debian-12", "data", "old"]),
    ({"RootDeviceTypes": ["instance-store"]}, []),
    ({"SecureBoot": True}, []),
    ({"States": ["available"]}, ["debian-12", "data", "old"]),
    ({"TagKeys": ["os"]}, ["data"]),
    ({"TagValues": ["bsd", "linux"]}, ["data"]),
    ({"Tags": ["os=bsd"]}, ["data"]),
    ({"Tags": ["os=*"]}, []),
    ({"TpmMandatory": True}, ["data"]),
    ({"VirtualizationTypes": ["hvm"]}, ["debian-12", "data", "old"]),
]


async def test_every_filter_finds_what_it_should(kitchen: Kitchen) -> None:
    (kitchen.source.parent / "old.raw").write_bytes(b"old")
    public = Source.read(kitchen.source.parent / "old.raw")
    async with kitchen.open(public_sources=[public]) as client:
        mappings = [
            _mapping("/dev/sda1", SnapshotId=await _snapshot_id(client)),
            _mapping("/dev/xvdb", VolumeSize=7, VolumeType="gp2", DeleteOnVmDeletion=False),
        ]
        image = (
            await client.call(
                "CreateImage",
                ImageName="data",
                Architecture="i386",
                Description="with data",
                RootDeviceName="/dev/sda1",
                BlockDeviceMappings=mappings,
                BootModes=["uefi"],
                ProductCodes=["0002"],
                TpmMandatory=True,
            )
        )["Image"]
        await client.image_becomes(image, "available")
        await client.call("CreateTags", ResourceIds=[image["ImageId"]], Tags=[{"Key": "os", "Value": "bsd"}])
        allow = {"Additions": {"AccountIds": ["000000000043"]}}
        await client.call("UpdateImage", ImageId=image["ImageId"], PermissionsToLaunch=allow)
        for which, names in _FILTERS:
            found = (await client.call("ReadImages", Filters=which))["Images"]
            assert {one["ImageName"] for one in found} == set(names), which
            assert len(found) == len(names), which


@pytest.mark.parametrize(
    "which",
    [
        {"ImageIds": "ami-00000000"},
        {"ImageNames": [1]},
        {"PermissionsToLaunchGlobalPermission": [True]},
        {"TpmMandatory": "true"},
        {"BlockDeviceMappingVolumeSizes": [True]},
        {"BlockDeviceMappingVolumeSizes": ["1"]},
    ],
)
async def test_values_of_another_type_are_refused(client: Client, which: Json) -> None:
    assert await client.refused("ReadImages", Filters=which) == (400, "4108")


async def test_an_omi_that_fails_leaves_its_name_until_it_is_deleted(client: Client) -> None:
    snapshot = {"SnapshotId": await _snapshot_id(client)}
    await client.fault(operation="CreateImage", kind="image_failed")
    image = await client.image_becomes(await client.registered("twice", snapshot), "failed")
    assert image["StateComment"] == {
        "StateCode": "Server.InternalError",
        "StateMessage": "The OMI could not be made.",
    }
    mappings = [_mapping("/dev/sda1", **snapshot)]
    same = {"ImageName": "twice", "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": mappings}
    assert await client.refused("CreateImage", **same) == (409, "9015")
    copied = {"SourceImageId": image["ImageId"], "SourceRegionName": "eu-west-2"}
    assert await client.refused("CreateImage", **copied) == (400, "6001")
    await client.call("DeleteImage", ImageId=image["ImageId"])
    await client.registered("twice", snapshot)


async def test_a_copy_whose_snapshot_fails_has_failed(client: Client) -> None:
    await client.fault(operation="CreateImage", kind="snapshot_error")
    copied = {"SourceImageId": (await client.image())["ImageId"], "SourceRegionName": "eu-west-2"}
    image = await client.image_becomes((await client.call("CreateImage", **copied))["Image"], "failed")
    await client.call("DeleteImage", ImageId=image["ImageId"])
    await client.call("DeleteSnapshot", SnapshotId=image["BlockDeviceMappings"][0]["Bsu"]["SnapshotId"])


async def test_a_snapshot_is_deleted_after_the_last_omi_that_stands_on_it(client: Client) -> None:
    snapshot = await client.snapshot(await client.volume())
    first = await client.registered("first", snapshot)
    second = await client.registered("second", snapshot)
    for image in (first, second):
        assert await client.refused("DeleteSnapshot", SnapshotId=snapshot["SnapshotId"]) == (409, "9002")
        await client.call("DeleteImage", ImageId=image["ImageId"])
    await client.call("DeleteSnapshot", SnapshotId=snapshot["SnapshotId"])
    assert await client.refused("DeleteSnapshot", SnapshotId=snapshot["SnapshotId"]) == (400, "5054")
    body = {"SubregionName": SUBREGION, "SnapshotId": snapshot["SnapshotId"]}
    assert await client.refused("CreateVolume", **body) == (400, "5054")
