"""What we send is what the API's own document describes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import BaseModel

from blocks.oxide.requests import (
    AutoPool,
    BlankDisk,
    DiskOfSnapshot,
    DistributedDisk,
    DualStack,
    EphemeralIp,
    ExplicitPool,
    FloatingIpOfInstance,
    ImageCreate,
    ImageSource,
    InstanceCreate,
    NetworkInterface,
    NetworkInterfaces,
    NewDisk,
    SingleStack,
    SnapshotSource,
)
from tests.emulators.openapi import as_json_schema
from tests.emulators.oxide.api_document import DOCUMENT

ID = "0f0e0d0c-0b0a-4908-8706-050403020100"


def disk(name: str, source: ImageSource | DiskOfSnapshot | BlankDisk) -> NewDisk:
    return NewDisk(name=name, description="d", size=2**30, disk_backend=DistributedDisk(disk_source=source))


def instance(**more: Any) -> InstanceCreate:
    nics = [
        NetworkInterface(name=f"n{place}", description="d", vpc_name="default", subnet_name="default", ip_config=stack)
        for place, stack in enumerate((SingleStack(type="v4"), SingleStack(type="v6"), DualStack()))
    ]
    least: dict[str, Any] = {
        "name": "i", "description": "d", "hostname": "i", "memory": 2**30, "ncpus": 1,
        "boot_disk": disk("b", ImageSource(image_id=ID)),
        "network_interfaces": NetworkInterfaces(params=nics),
        "external_ips": [],
        "ssh_public_keys": [],
    }  # fmt: skip
    return InstanceCreate(**{**least, **more})


REQUESTS: list[BaseModel] = [
    instance(),
    instance(external_ips=[EphemeralIp(pool_selector=AutoPool(ip_version="v6"))]),
    instance(external_ips=[EphemeralIp(pool_selector=ExplicitPool(pool="p"))], user_data="YQ==", ssh_public_keys=[ID]),
    instance(external_ips=[FloatingIpOfInstance(floating_ip="f")], anti_affinity_groups=["g", ID]),
    instance(disks=[disk("d", DiskOfSnapshot(snapshot_id=ID)), disk("e", BlankDisk(block_size=4096))]),
    ImageCreate(name="i", description="d", os="debian", version="12", source=SnapshotSource(id=ID)),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_a_request_is_as_the_document_has_it(request_: BaseModel) -> None:
    if not DOCUMENT.exists():
        pytest.skip(f"the API document is not here ({DOCUMENT.name})")
    components = as_json_schema(json.loads(DOCUMENT.read_text(encoding="utf-8"))["components"])
    name = type(request_).__name__
    body = request_.model_dump(mode="json")
    schema = {"$ref": f"#/components/schemas/{name}", "components": components}
    # A name and an id are told apart by format alone.
    Draft202012Validator(schema, format_checker=FormatChecker(["uuid"])).validate(body)
    assert set(body) <= set(components["schemas"][name]["properties"])
