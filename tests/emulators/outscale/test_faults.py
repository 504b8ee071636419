"""Faults, rates and the request log."""

from __future__ import annotations

from datetime import datetime, timedelta

import httpx
import pytest

from tests.emulators.outscale.kitchen import SUBREGION, VM, Client, Kitchen


async def test_a_volume_ends_in_error(client: Client) -> None:
    await client.fault(operation="CreateVolume", kind="volume_error")
    made = (await client.call("CreateVolume", SubregionName=SUBREGION, Size=1))["Volume"]
    await client.volume_becomes(made, "error")
    await client.call("DeleteVolume", VolumeId=made["VolumeId"])


async def test_a_snapshot_and_an_image_fail(client: Client) -> None:
    volume = await client.volume()
    await client.fault(operation="CreateSnapshot", kind="snapshot_error")
    await client.snapshot(volume, "error")
    await client.fault(operation="CreateImage", kind="image_failed")
    image = await client.registered("fails", await client.snapshot(volume))
    assert (await client.image_becomes(image, "failed"))["StateComment"]["StateMessage"]


async def test_a_link_hangs_until_it_is_forced_away(client: Client) -> None:
    volume = await client.volume()
    await client.fault(operation="LinkVolume", kind="link_hangs")
    await client.call("LinkVolume", VolumeId=volume["VolumeId"], VmId=VM, DeviceName="/dev/xvdb")
    await client.volume_becomes(volume, "in-use", "attaching")
    assert await client.refused("UnlinkVolume", VolumeId=volume["VolumeId"]) == (400, "6007")
    await client.unlink(volume, ForceUnlink=True)


@pytest.mark.parametrize(("code", "status"), [(6, 503), (24, 429), (25, 429)])
async def test_throttling_has_its_codes(client: Client, code: int, status: int) -> None:
    await client.fault(operation="Read*", kind="throttle", code=code)
    assert await client.refused("ReadVms") == (status, str(code))
    await client.call("ReadVms")


@pytest.mark.parametrize(("action", "code"), [("CreateVolume", "10018"), ("CreateSnapshot", "10026")])
async def test_a_quota_is_used_up(client: Client, action: str, code: str) -> None:
    await client.fault(operation=action, kind="quota")
    body = {"SubregionName": SUBREGION, "Size": 1} if action == "CreateVolume" else {"VolumeId": "vol-00000000"}
    assert await client.refused(action, **body) == (400, code)


async def test_a_status_fault_has_the_form_of_the_gateway(client: Client) -> None:
    await client.fault(operation="*", kind="status", status=500, message="later")
    await client.fault(operation="*", kind="status", status=429, skip=1)
    response = await client.send("ReadVms")
    assert (response.status_code, response.json()["Errors"][0]["Details"]) == (500, "later")
    assert await client.refused("ReadVms") == (429, "24")


async def test_a_reply_that_is_lost_has_done_its_work(client: Client) -> None:
    await client.fault(operation="CreateVolume", kind="drop_after")
    with pytest.raises(httpx.TransportError):
        await client.send("CreateVolume", SubregionName=SUBREGION, Size=1, ClientToken="lost")
    found = await client.call("ReadVolumes", Filters={"ClientTokens": ["lost"]})
    assert len(found["Volumes"]) == 1
    logged = (await client.requests())[0]
    assert (logged["operation"], logged["status"], logged["description"]) == ("CreateVolume", 0, "lost")


async def test_each_call_has_a_rate_of_its_own(kitchen: Kitchen) -> None:
    async with kitchen.open(call_rate=1) as client:
        # However slow the machine is, two of these come in the same second.
        replies = {await client.refused("ReadVms", Nonsense=1) for _ in range(20)}
        assert replies == {(400, "3001"), (429, "25")}
        assert await client.refused("ReadVolumes", Nonsense=1) == (400, "3001")


async def test_each_account_has_a_rate(kitchen: Kitchen) -> None:
    async with kitchen.open(rate=5, other_accounts=["000000000042"]) as client:
        codes = [(await client.send("ReadRegions")).status_code for _ in range(8)]
        async with kitchen.client(client.served, client.region.accounts[1]) as other:
            assert (await other.send("ReadRegions")).status_code == 200
        times = [datetime.fromisoformat(entry["time"]) for entry in await client.requests()]
    # The machine may be slow: what must hold is that no second has more than five that were let in.
    let_in = [moment for moment, code in zip(times[:8], codes, strict=True) if code == 200]
    for start in let_in:
        assert sum(start <= moment < start + timedelta(seconds=0.99) for moment in let_in) <= 5
    assert codes[:5] == [200] * 5
    assert set(codes) <= {200, 429}
