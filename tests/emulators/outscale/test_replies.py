"""Replies have what the document's examples show, beyond what its schemas ask for: they ask for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from emulators.outscale.actions import ACTIONS
from tests.emulators.outscale.api_document import ApiDocument
from tests.emulators.outscale.kitchen import SUBREGION, VM, Client, Kitchen

_NOT_HERE = {
    # Standard volumes have no figure, and updates are done when the call returns.
    "Volume": {"Iops", "TaskId"},
    "Volumes": {"Iops"},
    # No VM of this region is in a Net, and none has a key pair.
    "Vms": {"IsSourceDestChecked", "KeypairName", "NetId", "Nics", "SubnetId"},
}


def _keys(value: Any) -> set[str]:
    item = value[0] if isinstance(value, list) and value else value
    return set(item) if isinstance(item, dict) else set()


async def test_replies_have_all_that_the_examples_have(client: Client, api_document: ApiDocument | None) -> None:
    if api_document is None:
        pytest.skip("neither the specs directory nor osc-sdk-python has the API document")
    volume = (await client.call("CreateVolume", SubregionName=SUBREGION, Size=1))["Volume"]
    await client.volume_becomes(volume, "available")
    volume_id = {"VolumeId": volume["VolumeId"]}
    image_id = {"ImageId": (await client.image())["ImageId"]}
    snapshot = await client.snapshot(volume)
    snapshot_id = {"SnapshotId": snapshot["SnapshotId"]}
    tags = [{"Key": "key1", "Value": "value1"}]
    link = {**volume_id, "VmId": VM, "DeviceName": "/dev/xvdb"}
    allow = {"Additions": {"AccountIds": ["987654321098"]}}
    asked: dict[str, dict[str, Any]] = {
        "CheckAuthentication": {"Login": client.account.login, "Password": client.account.password},
        "CreateVolume": {"SubregionName": SUBREGION, "Size": 1},
        "UpdateVolume": {**volume_id, "Size": 2},
        "LinkVolume": link,
        "CreateSnapshot": volume_id,
        "UpdateSnapshot": {**snapshot_id, "PermissionsToCreateVolume": allow},
        "CreateImage": {"SourceImageId": image_id["ImageId"], "SourceRegionName": "eu-west-2"},
        "UpdateImage": {**image_id, "PermissionsToLaunch": allow},
        "CreateTags": {"ResourceIds": [VM], "Tags": tags},
    }
    last: dict[str, dict[str, Any]] = {
        "UnlinkVolume": {**volume_id, "ForceUnlink": True},
        "DeleteTags": {"ResourceIds": [VM], "Tags": tags},
        "DeleteImage": image_id,
        "DeleteSnapshot": snapshot_id,
        "DeleteVolume": volume_id,
    }
    reads: dict[str, dict[str, Any]] = {name: {} for name in ACTIONS if name.startswith("Read")}
    assert {*asked, *reads, *last} == set(ACTIONS)
    for action, body in {**asked, **reads, **last}.items():
        if action == "DeleteVolume":
            await client.volume_becomes(volume, "available")
        reply = await client.call(action, **body)
        examples = api_document.examples(action)
        for key in set.intersection(*(set(example) for example in examples)):
            shown = set.intersection(*(_keys(example[key]) for example in examples))
            assert shown - _NOT_HERE.get(key, set()) <= _keys(reply[key]), f"{action}.{key}"


async def test_a_volume_of_each_type_says_how_fast_it_is(client: Client) -> None:
    assert "Iops" not in await client.volume()
    assert (await client.volume(VolumeType="gp2", Size=10))["Iops"] == 100
    assert (await client.volume(VolumeType="gp2", Size=5000))["Iops"] == 10000
    assert (await client.volume(VolumeType="io1", Size=1, Iops=300))["Iops"] == 300


async def test_a_snapshot_waits_its_turn(kitchen: Kitchen) -> None:
    async with kitchen.open() as client:
        volume = await client.volume()
        made = (await client.call("CreateSnapshot", VolumeId=volume["VolumeId"]))["Snapshot"]
        assert (made["State"], made["Progress"]) == ("pending/queued", 0)
        completed = await client.snapshot(volume)
        assert completed["Progress"] == 100
