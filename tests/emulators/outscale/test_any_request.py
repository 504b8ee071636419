"""Whatever a client sends, the region answers as the document has it, and never fails itself."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from emulators.machines.disks import make_blank
from emulators.outscale.accounts import Account, Gate
from emulators.outscale.actions import ACTIONS
from emulators.outscale.app import api_app
from emulators.outscale.records import Image, ImageState, Mapping, Snapshot, SnapshotState, Volume, VolumeState
from emulators.outscale.region import OutscaleRegion, Place
from emulators.outscale.signatures import Message
from emulators.outscale.times import Times
from emulators.region.sources import GIB
from tests.emulators.outscale.api_document import ApiDocument, document_path
from tests.emulators.outscale.kitchen import until
from tests.emulators.outscale.replies import Checked

_MINE, _THEIRS = (Account(region="eu-west-2", account_id=f"00000000000{n}") for n in (2, 3))
_IDS = [f"{kind}-0000000{n}" for kind in ("vol", "snap", "ami", "i") for n in (1, 2, 9)]
_WORDS = [
    *_IDS,
    *(
        "vol-1",
        "toto",
        "",
        "*",
        "?[",
        "a" * 300,
        "\x00",
        "é\u2028",
        "\ud800",
        "0001",
        "1-1-1",
        "2026-01-01",
        "9999-12-31",
    ),
    *("2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00", "0001-01-01T00:00:00+14:00", "10:20:00"),
    *("/dev/sda1", "/dev/xvdb", "/dev/sdbz", "eu-west-2", "eu-west-2a", "us-east-2", "standard", "gp2", "io1"),
    *("x86_64", "legacy", "uefi", "an image", "000000000002", "000000000003", "available", "W10=", "WyJhIiwiYiJd"),
    *("WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwidm9sLTAwMDAwMDAxIl0=", "token"),
]
_NUMBERS = [-1, 0, 1, 2, 50, 300, 1000, 1001, 13000, 14901, 14902, 2**31, 2**63, 10**30]

_junk: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(_WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _values(document: ApiDocument, schema: dict[str, Any], depth: int = 0) -> SearchStrategy[Any]:
    schema = document.resolved(schema)
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return st.one_of(*(_values(document, item, depth) for item in several))
    match schema.get("type"):
        case "object":
            return _objects(document, schema, depth)
        case "array":
            return st.lists(_values(document, schema["items"], depth + 1), max_size=3)
        case "boolean":
            return st.booleans()
        case "integer":
            return st.sampled_from(_NUMBERS)
        case "null":
            return st.none()
    return st.sampled_from(schema.get("enum") or _WORDS)


def _objects(document: ApiDocument, schema: dict[str, Any], depth: int) -> SearchStrategy[Any]:
    known = {name: _values(document, told, depth + 1) for name, told in schema["properties"].items()}
    required = {name: known.pop(name) for name in schema.get("required", ()) if name in known}
    # Most of what is sent is as the document has it: the rest would not come far.
    known["Nonsense"] = _junk
    optional = {name: st.one_of(*[values] * 9, _junk) for name, values in known.items()}
    return st.fixed_dictionaries(required, optional=optional)


_BSU = {"SnapshotId": "snap-00000001", "VolumeSize": 2, "VolumeType": "io1", "Iops": 300, "DeleteOnVmDeletion": False}
_ROOT = {"DeviceName": "/dev/sda1", "Bsu": {"SnapshotId": "snap-00000001"}}
_MAPPINGS = [
    _ROOT,
    {"DeviceName": "/dev/xvdb", "Bsu": _BSU},
    {"DeviceName": "/dev/sdc", "VirtualDeviceName": "ephemeral0"},
]
_ALLOW = {"Additions": {"AccountIds": ["000000000003"], "GlobalPermission": True}}
_TAG = {"Key": "k", "Value": "v"}
_GOOD: dict[str, list[dict[str, Any]]] = {
    "CheckAuthentication": [{"Login": _MINE.login, "Password": _MINE.password}],
    "CreateVolume": [
        {"SubregionName": "eu-west-2a", "Size": 1, "ClientToken": "t"},
        {"SubregionName": "eu-west-2b", "SnapshotId": "snap-00000001", "VolumeType": "io1", "Iops": 300},
    ],
    "UpdateVolume": [{"VolumeId": "vol-00000001", "Size": 3, "VolumeType": "io1", "Iops": 300}],
    "LinkVolume": [{"VolumeId": "vol-00000001", "VmId": "i-00000001", "DeviceName": "/dev/xvdb"}],
    "UnlinkVolume": [{"VolumeId": "vol-00000001", "ForceUnlink": True}, {"VolumeId": "vol-00000001"}],
    "DeleteVolume": [{"VolumeId": "vol-00000001"}],
    "CreateSnapshot": [
        {"VolumeId": "vol-00000001", "ClientToken": "t", "Description": "d"},
        {"SourceSnapshotId": "snap-00000001", "SourceRegionName": "eu-west-2"},
    ],
    "UpdateSnapshot": [{"SnapshotId": "snap-00000001", "PermissionsToCreateVolume": _ALLOW}],
    "DeleteSnapshot": [{"SnapshotId": "snap-00000001"}],
    "CreateImage": [
        {"ImageName": "made", "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": _MAPPINGS, "BootModes": ["uefi"]},
        {"ImageName": "copied", "SourceImageId": "ami-00000001", "SourceRegionName": "eu-west-2"},
        {"SourceImageId": "ami-00000001", "SourceRegionName": "eu-west-2", "ProductCodes": []},
    ],
    "UpdateImage": [{"ImageId": "ami-00000001", "PermissionsToLaunch": _ALLOW, "Description": "d"}],
    "DeleteImage": [{"ImageId": "ami-00000001"}],
    "CreateTags": [{"ResourceIds": ["vol-00000001", "i-00000001"], "Tags": [_TAG, {"Key": "l", "Value": ""}]}],
    "DeleteTags": [{"ResourceIds": ["vol-00000001", "ami-00000001"], "Tags": [_TAG]}],
    "ReadImages": [
        {"Filters": {"ImageIds": ["ami-00000001"]}, "ResultsPerPage": 1},
        {"Filters": {"ImageNames": ["*"]}},
    ],
    "ReadTags": [{"ResultsPerPage": 1}],
}


@st.composite
def _calls(draw: st.DrawFn, document: ApiDocument) -> list[tuple[str, bytes]]:
    calls = []
    for action in draw(st.lists(st.sampled_from(sorted(ACTIONS)), min_size=1, max_size=8)):
        schema = document.schema(f"{action}Request")
        body = dict(draw(st.sampled_from(_GOOD.get(action, [{}]))))
        for name in draw(st.lists(st.sampled_from(sorted(schema["properties"])), max_size=2)):
            if draw(st.booleans()):
                body[name] = draw(_values(document, schema["properties"][name]))
            else:
                body.pop(name, None)
        body = draw(st.one_of(*[st.just(body)] * 5, _values(document, schema)))
        calls.append((action, json.dumps(body).encode()))
    return calls


class _Open(Gate):
    def admit(self, message: Message, action: str) -> Account:
        return _THEIRS if message.headers.get("x-account") == "theirs" else _MINE


def _region(directory: Path) -> OutscaleRegion:
    """A region with something of everything in it."""
    region = OutscaleRegion(directory, Place(), [_MINE, _THEIRS], times=Times(), devices=False)
    region.gate = _Open(region.accounts)
    for number, account in ((1, _MINE), (2, _THEIRS)):
        volume = Volume(
            id=f"vol-0000000{number}",
            account_id=account.account_id,
            size=1,
            volume_type="standard",
            subregion="eu-west-2a",
            state=VolumeState.AVAILABLE,
        )
        snapshot = Snapshot(
            id=f"snap-0000000{number}",
            account_id=account.account_id,
            volume_id=volume.id,
            volume_size=1,
            state=SnapshotState.COMPLETED,
        )
        image = Image(
            id=f"ami-0000000{number}",
            name=f"image {number}",
            account_id=account.account_id,
            root_device="/dev/sda1",
            mappings=[Mapping(device="/dev/sda1", snapshot_id=snapshot.id, size=1)],
            boot_modes=["legacy"],
            product_codes=["0001"],
            state=ImageState.AVAILABLE,
        )
        make_blank(region.path(volume), GIB)
        make_blank(region.path(snapshot), GIB)
        region.volumes.save(volume)
        region.snapshots.save(snapshot)
        region.images.save(image)
    return region


@contextmanager
def _no_complaint() -> Iterator[None]:
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(self.format(record))

    listener = Listener(logging.ERROR)
    logger = logging.getLogger("emulators.outscale")
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
    assert said == []


async def _is_quiet(region: OutscaleRegion) -> bool:
    return not (
        any(volume.state in {VolumeState.CREATING, VolumeState.DELETING} for volume in region.volumes)
        or any(snapshot.is_being_made for snapshot in region.snapshots)
        or any(image.state is ImageState.PENDING for image in region.images)
    )


async def _ask(directory: Path, document: ApiDocument, calls: list[tuple[str, bytes]]) -> None:
    region, wrong = _region(directory), list[str]()
    transport = httpx.ASGITransport(Checked(api_app(region), document, wrong))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://region", verify=False) as http:
            for number, (action, body) in enumerate(calls):
                headers = {"x-account": "theirs" if number % 3 == 2 else "mine"}
                reply = await http.post(f"/api/v1/{action}", content=body, headers=headers)
                assert reply.status_code < 500, (action, body, reply.text)
                await asyncio.sleep(0)
        await until(lambda: _is_quiet(region))
    finally:
        await region.stop_jobs()
    assert wrong == []
    # What was made is still readable by the next process.
    OutscaleRegion(directory, Place(), [_MINE, _THEIRS], times=Times(), devices=False)


_PATH = document_path()
_DOCUMENT = ApiDocument(_PATH) if _PATH else None
_EVERY_CALL = _calls(_DOCUMENT) if _DOCUMENT else st.nothing()
_UNHURRIED = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    # To make a failure smaller would take minutes, and calls and bodies are short.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


@pytest.mark.skipif(_DOCUMENT is None, reason="neither the specs directory nor osc-sdk-python has the API document")
@_UNHURRIED
@given(_EVERY_CALL)
def test_any_calls_in_any_order_are_answered_as_documented(calls: list[tuple[str, bytes]]) -> None:
    assert _DOCUMENT is not None
    with TemporaryDirectory() as directory, _no_complaint():
        asyncio.run(_ask(Path(directory), _DOCUMENT, calls))


_BODIES = st.one_of(
    st.binary(max_size=64),
    _junk.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [
            b"[" * 100_000,
            b'{"Filters":' * 50_000,
            b'{"VolumeId":"vol-00000001","Description":"\\ud800"}',
            b'{"Size":' + b"9" * 5000 + b"}",
        ]
    ),
)


@pytest.mark.skipif(_DOCUMENT is None, reason="neither the specs directory nor osc-sdk-python has the API document")
@_UNHURRIED
@given(
    st.lists(st.tuples(st.sampled_from(["CreateSnapshot", "ReadImages", "Nothing"]), _BODIES), min_size=1, max_size=4)
)
def test_any_bytes_are_answered_as_documented(calls: list[tuple[str, bytes]]) -> None:
    assert _DOCUMENT is not None
    with TemporaryDirectory() as directory, _no_complaint():
        asyncio.run(_ask(Path(directory), _DOCUMENT, calls))
