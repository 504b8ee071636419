"""What an account may have at most, and what it hears when it wants more."""

from __future__ import annotations

import pytest

from emulators.outscale.__main__ import main
from emulators.outscale.quotas import QUOTAS
from tests.emulators.outscale.kitchen import SUBREGION, Client, Json, Kitchen


async def _quota(client: Client, name: str) -> tuple[int, int]:
    types = (await client.call("ReadQuotas", Filters={"QuotaNames": [name]}))["QuotaTypes"]
    assert [found["QuotaType"] for found in types] == ["global"]
    (quota,) = types[0]["Quotas"]
    assert quota["AccountId"] == client.account.account_id
    return quota["UsedValue"], quota["MaxValue"]


async def test_nothing_is_limited_until_it_is_told_to(client: Client) -> None:
    every = (await client.call("ReadQuotas"))["QuotaTypes"][0]["Quotas"]
    assert {quota["Name"] for quota in every} == set(QUOTAS)
    assert {quota["MaxValue"] for quota in every} == {0}
    titled = {"ShortDescriptions": ["Volume Limit"], "Collections": ["Storage"]}
    found = (await client.call("ReadQuotas", Filters=titled))["QuotaTypes"]
    assert [quota["Name"] for quota in found[0]["Quotas"]] == ["volume_limit"]
    assert (await client.call("ReadQuotas", Filters={"QuotaTypes": ["vpc-12345678"]}))["QuotaTypes"] == []
    first = await client.call("ReadQuotas", ResultsPerPage=8)
    second = await client.call("ReadQuotas", ResultsPerPage=8, NextPageToken=first["NextPageToken"])
    assert len(first["QuotaTypes"][0]["Quotas"]) + len(second["QuotaTypes"][0]["Quotas"]) == len(QUOTAS)


@pytest.mark.parametrize(
    ("limits", "body", "code"),
    [
        ({"volume_limit": 1}, {"Size": 1}, "10018"),
        ({"volume_size_limit": 4}, {"Size": 3}, "10024"),
        ({"standard_volume_size_limit": 4}, {"Size": 3}, "10024"),
        ({"gp2_volume_size_limit": 2}, {"Size": 3, "VolumeType": "gp2"}, "10024"),
        ({"iops_limit": 100}, {"Size": 1, "VolumeType": "io1", "Iops": 101}, "10025"),
    ],
)
async def test_volumes_end_where_the_quota_does(kitchen: Kitchen, limits: Json, body: Json, code: str) -> None:
    async with kitchen.open(limits=limits) as client:
        volume = await client.volume(Size=2)
        assert await client.refused("CreateVolume", SubregionName=SUBREGION, **body) == (400, code)
        (name,) = limits
        assert (await _quota(client, name))[1] == limits[name]
        await client.call("DeleteVolume", VolumeId=volume["VolumeId"])


async def test_a_volume_that_grows_or_changes_its_type_counts(kitchen: Kitchen) -> None:
    async with kitchen.open(limits={"volume_size_limit": 5, "gp2_volume_size_limit": 3}) as client:
        volume = await client.volume(Size=2)
        volume_id = {"VolumeId": volume["VolumeId"]}
        assert await client.refused("UpdateVolume", **volume_id, Size=6) == (400, "10024")
        assert await client.refused("UpdateVolume", **volume_id, Size=4, VolumeType="gp2") == (400, "10024")
        await client.call("UpdateVolume", **volume_id, Size=3, VolumeType="gp2")
        assert await _quota(client, "volume_size_limit") == (3, 5)
        assert await _quota(client, "gp2_volume_size_limit") == (3, 3)
        assert await _quota(client, "standard_volume_size_limit") == (0, 0)


async def test_a_repeated_create_needs_no_room(kitchen: Kitchen) -> None:
    async with kitchen.open(limits={"volume_limit": 1, "snapshot_limit": 2}) as client:
        volume = await client.volume(ClientToken="once")
        again = await client.call("CreateVolume", SubregionName=SUBREGION, Size=1, ClientToken="once")
        assert again["Volume"]["VolumeId"] == volume["VolumeId"]
        snapshot = await client.snapshot(volume, ClientToken="once")
        repeated = await client.snapshot(volume, ClientToken="once")
        assert repeated["SnapshotId"] == snapshot["SnapshotId"]
        assert await client.refused("CreateSnapshot", VolumeId=volume["VolumeId"]) == (400, "10026")
        copied = {"SourceImageId": (await client.image())["ImageId"], "SourceRegionName": "eu-west-2"}
        assert await client.refused("CreateImage", **copied) == (400, "10026")
        assert len((await client.call("ReadImages"))["Images"]) == 1


async def test_copies_under_way_are_limited(kitchen: Kitchen) -> None:
    async with kitchen.open(limits={"snapshot_copy_limit": 1}) as client:
        await client.fault(operation="CreateImage", kind="slow", seconds=30)
        copied = {"SourceImageId": (await client.image())["ImageId"], "SourceRegionName": "eu-west-2"}
        copy = (await client.call("CreateImage", **copied))["Image"]
        assert await _quota(client, "image_copy_limit") == (1, 0)
        assert await client.refused("CreateImage", **copied) == (400, "10008")
        snapshot_id = copy["BlockDeviceMappings"][0]["Bsu"]["SnapshotId"]
        assert await _quota(client, "snapshot_copy_limit") == (1, 1)
        assert await client.refused("DeleteSnapshot", SnapshotId=snapshot_id) == (409, "9002")


async def test_quotas_are_set_while_the_region_serves(client: Client) -> None:
    reply = await client.control.put("/quotas", json={"volume_limit": 1})
    assert reply.json()["volume_limit"] == 1
    await client.volume()
    assert await client.refused("CreateVolume", SubregionName=SUBREGION, Size=1) == (400, "10018")
    await client.control.put("/quotas", json={"volume_limit": 0})
    await client.volume()
    for wrong in ({"bread_limit": 1}, {"volume_limit": "x"}, [1]):
        assert (await client.control.put("/quotas", json=wrong)).status_code == 400
    assert (await client.control.get("/quotas")).json()["volume_limit"] == 0


@pytest.mark.parametrize("quota", ["bread_limit=1", "volume_limit", "volume_limit=x"])
def test_a_wrong_quota_is_said_at_once(quota: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--state", "/nowhere", "--quota", quota])
    assert "--quota" in capsys.readouterr().err
