"""What can be set while a region serves."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulators.outscale.kitchen import SUBREGION, VM, Client, Json, until

_LONG = 3600


async def _set(client: Client, **times: float) -> Json:
    reply = await client.control.put("/times", json=times)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def test_the_cloud_becomes_slower_and_faster(client: Client) -> None:
    assert set((await _set(client, volume=_LONG)).values()) == {0, _LONG}
    volume = (await client.call("CreateVolume", SubregionName=SUBREGION, Size=1))["Volume"]
    assert (await _set(client, volume=0, link=_LONG))["volume"] == 0
    fast = await client.volume()
    assert (await client.read_volume(volume) or {})["State"] == "creating"
    await client.call("LinkVolume", VolumeId=fast["VolumeId"], VmId=VM, DeviceName="/dev/xvdb")
    await client.volume_becomes(fast, "in-use", "attaching")
    assert (await client.control.get("/times")).json()["link"] == _LONG


@pytest.mark.parametrize("wrong", [{"bread": 1}, {"volume": -1}, {"volume": "long"}, [], 7, None])
async def test_wrong_times_change_nothing(client: Client, wrong: Any) -> None:
    assert (await client.control.put("/times", json=wrong)).status_code == 400
    assert set((await client.control.get("/times")).json().values()) == {0}


async def test_the_work_of_one_request_takes_longer(client: Client) -> None:
    await client.fault(operation="CreateVolume", kind="slow", seconds=_LONG)
    slow = (await client.call("CreateVolume", SubregionName=SUBREGION, Size=1))["Volume"]
    volume, other = await client.volume(), await client.volume()
    assert (await client.read_volume(slow) or {})["State"] == "creating"

    await client.fault(operation="CreateSnapshot", kind="slow", seconds=_LONG)
    await client.snapshot(volume, "pending")
    await client.snapshot(volume)

    await client.fault(operation="CreateImage", kind="slow", seconds=_LONG)
    snapshot = {"SnapshotId": (await client.image())["BlockDeviceMappings"][0]["Bsu"]["SnapshotId"]}
    image = await client.registered("slow", snapshot)
    await client.image_becomes(await client.registered("fast", snapshot), "available")
    await client.image_becomes(image, "pending")

    await client.fault(operation="LinkVolume", kind="slow", seconds=_LONG)
    await client.call("LinkVolume", VolumeId=volume["VolumeId"], VmId=VM, DeviceName="/dev/xvdb")
    await client.link(other, "/dev/xvdc")
    await client.volume_becomes(volume, "in-use", "attaching")

    await client.fault(operation="UnlinkVolume", kind="slow", seconds=_LONG)
    await client.call("UnlinkVolume", VolumeId=other["VolumeId"])
    await client.volume_becomes(other, "in-use", "detaching")


async def test_a_volume_that_goes_is_deleting_first(client: Client) -> None:
    await client.fault(operation="DeleteVolume", kind="slow", seconds=_LONG)
    going, gone = await client.volume(), await client.volume()
    for volume in (going, gone):
        await client.call("DeleteVolume", VolumeId=volume["VolumeId"])

    async def only_one() -> bool:
        return await client.read_volume(gone) is None

    await until(only_one)
    await client.volume_becomes(going, "deleting")
    assert await client.refused("DeleteVolume", VolumeId=going["VolumeId"]) == (400, "6007")
