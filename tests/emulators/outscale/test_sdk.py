"""The vendor's SDK, from outside: a client that nobody here wrote."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from emulators.outscale.actions import ACTIONS
from tests.emulators.outscale import needs
from tests.emulators.outscale.api_document import ApiDocument
from tests.emulators.outscale.served import Served


@pytest.fixture
def gateway(
    tmp_path: Path, no_device_left: None, monkeypatch: pytest.MonkeyPatch, api_document: ApiDocument | None
) -> Iterator[Any]:
    needs.sdk()
    from osc_sdk_python import Gateway  # type: ignore[import-untyped]

    with Served(tmp_path / "state") as served:
        monkeypatch.setenv("OSC_ENDPOINT_API", served.ready["api"])
        monkeypatch.setenv("NO_PROXY", "*")
        made = Gateway(
            access_key=served.credentials["access_key"],
            secret_key=served.credentials["secret_key"],
            region=served.credentials["region"],
            max_retries=0,
            limiter_max_requests=1000,
        )
        made.served = served
        if api_document is not None:
            made.call.session.hooks["response"].append(partial(_check, api_document))
        yield made
        made.call.close()


def _check(document: ApiDocument, response: Any, **_: Any) -> None:
    document.check_reply(response.request.path_url, response.status_code, response.headers, response.content)


def _until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_it_walks_all_calls(gateway: Any, device_name: Callable[[], str]) -> None:
    ready, node = gateway.served.ready, device_name()
    assert gateway.ReadAccounts()["Accounts"][0]["AccountId"] == gateway.served.credentials["account_id"]
    login = f"{gateway.served.credentials['account_id']}@example.com"
    gateway.CheckAuthentication(Login=login, Password=gateway.served.credentials["password"])
    assert gateway.ReadQuotas(Filters={"QuotaNames": ["volume_limit"]})["QuotaTypes"][0]["Quotas"]
    assert gateway.ReadRegions()["Regions"]
    assert gateway.ReadSubregions()["Subregions"]
    assert gateway.ReadVms()["Vms"][0]["VmId"] == ready["vm_id"]

    volume_id = gateway.CreateVolume(SubregionName=ready["subregion"], Size=1, ClientToken="walk")["Volume"]["VolumeId"]

    def volume_is(state: str, links: list[str]) -> Callable[[], bool]:
        def look() -> bool:
            volume = gateway.ReadVolumes(Filters={"VolumeIds": [volume_id]})["Volumes"][0]
            return volume["State"] == state and [link["State"] for link in volume["LinkedVolumes"]] == links

        return look

    _until(volume_is("available", []))
    gateway.UpdateVolume(VolumeId=volume_id, Size=2)
    gateway.LinkVolume(VolumeId=volume_id, VmId=ready["vm_id"], DeviceName=node)
    _until(volume_is("in-use", ["attached"]))
    with Path(node).open("r+b", buffering=0) as device:
        device.write(b"dough".ljust(4096, b"\0"))
        os.fsync(device.fileno())
    gateway.UnlinkVolume(VolumeId=volume_id)
    _until(volume_is("available", []))

    snapshot_id = gateway.CreateSnapshot(VolumeId=volume_id, Description="walk")["Snapshot"]["SnapshotId"]
    _until(lambda: gateway.ReadSnapshots(Filters={"SnapshotIds": [snapshot_id], "States": ["completed"]})["Snapshots"])
    permission = {"Additions": {"GlobalPermission": True}}
    gateway.UpdateSnapshot(SnapshotId=snapshot_id, PermissionsToCreateVolume=permission)
    image_id = gateway.CreateImage(
        ImageName="walk",
        RootDeviceName="/dev/sda1",
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Bsu": {"SnapshotId": snapshot_id}}],
    )["Image"]["ImageId"]
    _until(lambda: gateway.ReadImages(Filters={"ImageIds": [image_id], "States": ["available"]})["Images"])
    gateway.UpdateImage(ImageId=image_id, Description="walked")
    tags = [{"Key": "walk", "Value": "yes"}]
    gateway.CreateTags(ResourceIds=[image_id], Tags=tags)
    assert gateway.ReadTags(Filters={"ResourceIds": [image_id]})["Tags"][0]["Value"] == "yes"
    gateway.DeleteTags(ResourceIds=[image_id], Tags=tags)

    with (gateway.served.state / "snapshots" / f"{snapshot_id}.raw").open("rb") as file:
        assert file.read(5) == b"dough"
    gateway.DeleteImage(ImageId=image_id)
    gateway.DeleteSnapshot(SnapshotId=snapshot_id)
    gateway.DeleteVolume(VolumeId=volume_id)
    _until(lambda: not gateway.ReadVolumes()["Volumes"])
    assert gateway.served.operations() == set(ACTIONS)


def test_a_wrong_secret_is_refused(gateway: Any) -> None:
    from osc_sdk_python import Gateway

    stranger = Gateway(
        access_key=gateway.served.credentials["access_key"], secret_key="x" * 40, region="eu-west-2", max_retries=0
    )
    with pytest.raises(Exception, match="401"):
        stranger.ReadVms()
    stranger.call.close()
