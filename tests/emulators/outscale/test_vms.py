"""Several VMs, all of them played by this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from emulators.outscale.region import Place
from tests.emulators.outscale.kitchen import SUBREGION, VM, Client, Json, Kitchen

_SECOND, _ELSEWHERE = "i-00000002", "i-0000000b"


@pytest.fixture
async def three(kitchen: Kitchen) -> AsyncIterator[Client]:
    place = Place(other_vms={_SECOND: SUBREGION, _ELSEWHERE: "eu-west-2b"})
    async with kitchen.open(place=place) as client:
        yield client


async def test_each_vm_has_its_own_volumes(three: Client) -> None:
    volumes = [await three.volume() for _ in range(3)]
    await three.link(volumes[0], "/dev/xvdb")
    second = {"VmId": _SECOND, "DeviceName": "/dev/xvdb"}
    await three.call("LinkVolume", VolumeId=volumes[1]["VolumeId"], **second)
    await three.volume_becomes(volumes[1], "in-use", "attached")
    assert await three.refused("LinkVolume", VolumeId=volumes[2]["VolumeId"], **second) == (409, "9004")
    vms = {vm["VmId"]: vm for vm in (await three.call("ReadVms"))["Vms"]}
    assert set(vms) == {VM, _SECOND, _ELSEWHERE}
    linked = {
        vm_id: [m["Bsu"]["VolumeId"] for m in vm["BlockDeviceMappings"] if m["DeviceName"] == "/dev/xvdb"]
        for vm_id, vm in vms.items()
    }
    assert linked == {VM: [volumes[0]["VolumeId"]], _SECOND: [volumes[1]["VolumeId"]], _ELSEWHERE: []}
    # A volume goes from one to the other.
    await three.unlink(volumes[0])
    body = {"VolumeId": volumes[0]["VolumeId"], "VmId": _SECOND, "DeviceName": "/dev/xvdc"}
    await three.call("LinkVolume", **body)
    found = await three.call("ReadVolumes", Filters={"LinkVolumeVmIds": [_SECOND]})
    assert {volume["VolumeId"] for volume in found["Volumes"]} == {v["VolumeId"] for v in volumes[:2]}


async def test_volumes_stay_in_their_subregion(three: Client) -> None:
    volume = await three.volume(SubregionName="eu-west-2b")
    body = {"VolumeId": volume["VolumeId"], "DeviceName": "/dev/xvdb"}
    assert await three.refused("LinkVolume", **body, VmId=_SECOND) == (409, "9071")
    await three.call("LinkVolume", **body, VmId=_ELSEWHERE)


async def test_a_name_is_kept_while_its_volume_is_being_linked(three: Client) -> None:
    first, other = await three.volume(), await three.volume()
    await three.fault(operation="LinkVolume", kind="link_hangs")
    await three.call("LinkVolume", VolumeId=first["VolumeId"], VmId=VM, DeviceName="/dev/xvdb")
    body = {"VolumeId": other["VolumeId"], "VmId": VM, "DeviceName": "/dev/xvdb"}
    assert await three.refused("LinkVolume", **body) == (409, "9004")
    await three.unlink(first, ForceUnlink=True)
    await three.link(other, "/dev/xvdb")


async def test_a_link_may_fail(three: Client) -> None:
    volume = await three.volume()
    await three.fault(operation="LinkVolume", kind="link_fails")
    await three.call("LinkVolume", VolumeId=volume["VolumeId"], VmId=VM, DeviceName="/dev/xvdb")
    await three.volume_becomes(volume, "available")
    await three.link(volume, "/dev/xvdb")


async def test_each_vm_has_metadata(three: Client) -> None:
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:

        async def tell(path: str) -> tuple[int, str]:
            reply = await http.get(f"{three.served.metadata}{path}")
            return reply.status_code, reply.text

        assert await tell("/latest/meta-data/instance-id") == (200, VM)
        assert await tell(f"/{VM}/latest/meta-data/instance-id") == (200, VM)
        assert await tell(f"/{_ELSEWHERE}/latest/meta-data/instance-id") == (200, _ELSEWHERE)
        assert await tell(f"/{_ELSEWHERE}/latest/meta-data/placement/availability-zone") == (200, "eu-west-2b")
        assert (await tell("/i-99999999/latest/meta-data/instance-id"))[0] == 404


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ({"VmIds": [_SECOND, "i-ffffffff"]}, [_SECOND]),
        ({"SubregionNames": ["eu-west-2b"]}, [_ELSEWHERE]),
        ({"VmStateNames": ["running"], "VmStateCodes": [16]}, [VM, _SECOND, _ELSEWHERE]),
        ({"VmStateNames": ["stopped"]}, []),
        ({"TagKeys": ["role"]}, [_SECOND]),
        ({"Tags": ["role=oven"]}, [_SECOND]),
        ({"TagValues": ["oven"]}, [_SECOND]),
        ({"BlockDeviceMappingDeviceNames": ["/dev/sda1"]}, [VM, _SECOND, _ELSEWHERE]),
        ({"BlockDeviceMappingVolumeIds": ["vol-00000002"]}, [_SECOND]),
        ({"BlockDeviceMappingDeleteOnVmDeletion": False}, []),
        ({"CreationDates": ["2001-01-01", "2001-01-01T00:00:00Z"]}, []),
        ({"NetIds": ["vpc-12345678"]}, []),
        ({"NicLinkNicDeviceNumbers": [0]}, []),
        ({"LaunchNumbers": [0], "TpmEnabled": False}, [VM, _SECOND, _ELSEWHERE]),
    ],
)
async def test_vm_filters(three: Client, which: Json, found: list[str]) -> None:
    await three.call("CreateTags", ResourceIds=[_SECOND], Tags=[{"Key": "role", "Value": "oven"}])
    assert [vm["VmId"] for vm in (await three.call("ReadVms", Filters=which))["Vms"]] == sorted(found)


async def test_when_a_vm_was_made_is_found_by_its_day_and_its_moment(three: Client) -> None:
    made = (await three.call("ReadVms", Filters={"VmIds": [VM]}))["Vms"][0]["CreationDate"]
    for wanted in (made, made.replace("Z", "+00:00"), made[:10]):
        found = (await three.call("ReadVms", Filters={"CreationDates": [wanted], "VmIds": [VM]}))["Vms"]
        assert len(found) == 1, wanted


@pytest.mark.parametrize(("vm_id", "code"), [("tata", "4104"), ("i-123", "4105")])
async def test_an_id_that_is_none_is_refused(three: Client, vm_id: str, code: str) -> None:
    assert await three.refused("ReadVms", Filters={"VmIds": [vm_id]}) == (400, code)


async def test_tags_of_a_vm_outlive_the_region_s_process(kitchen: Kitchen) -> None:
    async with kitchen.open() as client:
        await client.call("CreateTags", ResourceIds=[VM], Tags=[{"Key": "role", "Value": "oven"}])
        made = (await client.call("ReadVms"))["Vms"][0]["CreationDate"]
    async with kitchen.open(place=Place(other_vms={_SECOND: SUBREGION})) as client:
        vm = (await client.call("ReadVms"))["Vms"][0]
        assert (vm["Tags"], vm["CreationDate"]) == ([{"Key": "role", "Value": "oven"}], made)
