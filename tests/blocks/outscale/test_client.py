"""The client's requests and what it makes of replies. Only the wire is played."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from pydantic import BaseModel, SecretStr, ValidationError

from blocks.errors import (
    AlreadyExists,
    ApiError,
    CapacityExhausted,
    CloudError,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    ReplyLost,
    ServiceFault,
    Throttled,
    Unauthorized,
)
from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import (
    Bsu,
    Image,
    ImageCreate,
    ImageDevice,
    ImageFilters,
    PermissionsChange,
    PermissionsSet,
    SnapshotFilters,
    TagFilters,
    Vm,
    Volume,
    VolumeCreate,
    VolumeFilters,
)
from blocks.outscale.rate import SharedRate
from blocks.outscale.refusals import api_error
from tests.conftest import Tune

URL = "https://api.eu-west-2.test/api/v1"
CONTEXT = {"ResponseContext": {"RequestId": "0475ca1e-d0c5-441d-712a-da55a4175157"}}
VOLUME = {"VolumeId": "vol-1", "State": "creating", "Size": 10}
SNAPSHOT = {"SnapshotId": "snap-1", "State": "pending"}
IMAGE = {"ImageId": "ami-1", "State": "pending", "ImageName": "golden"}
VM = {"VmId": "i-1", "State": "running", "Placement": {"SubregionName": "eu-west-2a", "Tenancy": "default"}}


class CountedRate(SharedRate):
    def __init__(self, path: Path) -> None:
        super().__init__(path, 100)
        self.slots = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        self.slots += 1
        yield


@pytest.fixture
def rate(tmp_path: Path) -> CountedRate:
    return CountedRate(tmp_path / "rate" / "a")


@pytest.fixture
async def client(tune: Tune, rate: CountedRate) -> AsyncIterator[OutscaleClient]:
    async with OutscaleClient(f"{URL}/", "eu-west-2", "AKIDEXAMPLE", SecretStr("secret"), rate=rate) as opened:
        yield opened


def _refusal(status: int, code: str = "", kind: str = "AType", details: str = "why", **headers: str) -> httpx.Response:
    errors = [{"Type": kind, "Details": details, "Code": code}]
    return httpx.Response(status, json={"Errors": errors, **CONTEXT}, headers={"retry-after": "0", **headers})


def _answer(**keys: Any) -> httpx.Response:
    return httpx.Response(200, json={**keys, **CONTEXT})


Call = Callable[[OutscaleClient], Awaitable[Any]]
VOLUME_REQUEST = VolumeCreate(subregion_name="eu-west-2a", client_token="run-1-root", snapshot_id="snap-1", size=10)
LET_IN = PermissionsChange(additions=PermissionsSet(account_ids=["123456789012"]))

CALLS: dict[str, tuple[Call, dict[str, Any], dict[str, Any]]] = {
    "ReadAccounts": (lambda c: c.accounts(), {}, {"Accounts": [{"AccountId": "1"}]}),
    "ReadVms": (lambda c: c.vm("i-1"), {"Filters": {"VmIds": ["i-1"]}}, {"Vms": [VM]}),
    "ReadImages": (lambda c: c.image("ami-1"), {"Filters": {"ImageIds": ["ami-1"]}}, {"Images": [IMAGE]}),
    "CreateImage": (
        lambda c: c.create_image(
            ImageCreate(
                image_name="golden",
                architecture="x86_64",
                root_device_name="/dev/sda1",
                block_device_mappings=[
                    ImageDevice(device_name="/dev/sda1", bsu=Bsu(snapshot_id="snap-1", delete_on_vm_deletion=True))
                ],
                boot_modes=["uefi"],
                tpm_mandatory=False,
            )
        ),
        {
            "ImageName": "golden",
            "Architecture": "x86_64",
            "RootDeviceName": "/dev/sda1",
            "BlockDeviceMappings": [
                {"DeviceName": "/dev/sda1", "Bsu": {"SnapshotId": "snap-1", "DeleteOnVmDeletion": True}}
            ],
            "BootModes": ["uefi"],
            "TpmMandatory": False,
        },
        {"Image": IMAGE},
    ),
    "UpdateImage": (
        lambda c: c.update_image("ami-1", permissions=LET_IN, description="", product_codes=[]),
        {
            "ImageId": "ami-1",
            "PermissionsToLaunch": {"Additions": {"AccountIds": ["123456789012"]}},
            "Description": "",
            "ProductCodes": [],
        },
        {"Image": IMAGE},
    ),
    "DeleteImage": (lambda c: c.delete_image("ami-1"), {"ImageId": "ami-1"}, {}),
    "ReadVolumes": (lambda c: c.volume("vol-1"), {"Filters": {"VolumeIds": ["vol-1"]}}, {"Volumes": [VOLUME]}),
    "CreateVolume": (
        lambda c: c.create_volume(VOLUME_REQUEST),
        {"SubregionName": "eu-west-2a", "ClientToken": "run-1-root", "SnapshotId": "snap-1", "Size": 10},
        {"Volume": VOLUME},
    ),
    "LinkVolume": (
        lambda c: c.link_volume("vol-1", "i-1", "/dev/xvdf"),
        {"VolumeId": "vol-1", "VmId": "i-1", "DeviceName": "/dev/xvdf"},
        {},
    ),
    "UnlinkVolume": (
        lambda c: c.unlink_volume("vol-1", force=True),
        {"VolumeId": "vol-1", "ForceUnlink": True},
        {},
    ),
    "DeleteVolume": (lambda c: c.delete_volume("vol-1"), {"VolumeId": "vol-1"}, {}),
    "ReadSnapshots": (
        lambda c: c.snapshot("snap-1"),
        {"Filters": {"SnapshotIds": ["snap-1"]}},
        {"Snapshots": [SNAPSHOT]},
    ),
    "CreateSnapshot": (
        lambda c: c.create_snapshot("vol-1", description="mark", client_token="run-1-snapshot"),
        {"VolumeId": "vol-1", "Description": "mark", "ClientToken": "run-1-snapshot"},
        {"Snapshot": SNAPSHOT},
    ),
    "UpdateSnapshot": (
        lambda c: c.update_snapshot("snap-1", LET_IN),
        {"SnapshotId": "snap-1", "PermissionsToCreateVolume": {"Additions": {"AccountIds": ["123456789012"]}}},
        {"Snapshot": SNAPSHOT},
    ),
    "DeleteSnapshot": (lambda c: c.delete_snapshot("snap-1"), {"SnapshotId": "snap-1"}, {}),
    "CreateTags": (
        lambda c: c.create_tags(["ami-1", "snap-1"], {"Name": "golden"}),
        {"ResourceIds": ["ami-1", "snap-1"], "Tags": [{"Key": "Name", "Value": "golden"}]},
        {},
    ),
}
ONCE = {"CreateImage", "LinkVolume", "UnlinkVolume"}


@pytest.mark.parametrize("action", CALLS)
class TestEachCall:
    async def test_says_what_the_document_asks_for(
        self, client: OutscaleClient, respx_mock: respx.MockRouter, rate: CountedRate, action: str
    ) -> None:
        call, body, answer = CALLS[action]
        route = respx_mock.post(f"{URL}/{action}").mock(_answer(**answer))
        await call(client)
        request = route.calls.last.request
        assert json.loads(request.content) == body
        assert request.headers["content-type"] == "application/json; charset=utf-8"
        assert request.headers["authorization"].startswith("OSC4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
        assert rate.slots == 1

    async def test_is_tried_again_when_throttled(
        self, client: OutscaleClient, respx_mock: respx.MockRouter, rate: CountedRate, action: str
    ) -> None:
        call, _, answer = CALLS[action]
        route = respx_mock.post(f"{URL}/{action}")
        route.side_effect = [_refusal(503, "6"), _refusal(429, "24"), _refusal(429, "25"), _answer(**answer)]
        await call(client)
        assert route.call_count == rate.slots == 4

    async def test_is_tried_again_when_it_was_never_sent(
        self, client: OutscaleClient, respx_mock: respx.MockRouter, action: str
    ) -> None:
        call, _, answer = CALLS[action]
        route = respx_mock.post(f"{URL}/{action}")
        route.side_effect = [httpx.ConnectError("refused"), _answer(**answer)]
        await call(client)
        assert route.call_count == 2

    @pytest.mark.parametrize(
        ("fault", "error"),
        [(httpx.ReadError("reset"), ReplyLost), (_refusal(500, "2000"), ServiceFault)],
        ids=["lost", "500"],
    )
    async def test_is_repeated_only_where_that_does_no_harm(
        self, client: OutscaleClient, respx_mock: respx.MockRouter, action: str, fault: Any, error: type[CloudError]
    ) -> None:
        call, body, answer = CALLS[action]
        route = respx_mock.post(f"{URL}/{action}")
        route.side_effect = [fault, _answer(**answer)]
        if action in ONCE:
            with pytest.raises(error):
                await call(client)
            assert route.call_count == 1
        else:
            await call(client)
            assert [json.loads(made.request.content) for made in route.calls] == [body, body]

    async def test_a_refusal_says_which_resource(
        self, client: OutscaleClient, respx_mock: respx.MockRouter, action: str
    ) -> None:
        call, body, _ = CALLS[action]
        respx_mock.post(f"{URL}/{action}").mock(_refusal(400, "4047", "InvalidParameterValue", "no such thing"))
        with pytest.raises(InvalidRequest) as caught:
            await call(client)
        error = caught.value
        assert error.what == f"the region refused {action}"
        assert error.why == "InvalidParameterValue: no such thing"
        assert (error.status, error.code) == (400, "4047")
        assert error.request_id == CONTEXT["ResponseContext"]["RequestId"]
        names = ("ClientToken", "ImageName", "ImageId", "VolumeId", "SnapshotId")
        assert next((body[name] for name in names if name in body), "") in error.resource
        assert error.resource


async def test_credentials_are_checked_by_a_dry_run(client: OutscaleClient, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(f"{URL}/ReadVms").mock(_answer())
    await client.check_credentials()
    assert json.loads(route.calls.last.request.content) == {"DryRun": True}


async def test_bad_keys_are_not_tried_again(client: OutscaleClient, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(f"{URL}/ReadVms").mock(_refusal(401, "4120", "InvalidParameterValue"))
    with pytest.raises(Unauthorized) as caught:
        await client.check_credentials()
    assert route.call_count == 1
    assert "four bad attempts lock the key for a minute" in caught.value.hint


async def test_a_long_pause_that_is_asked_for_is_not_cut_short(
    client: OutscaleClient, respx_mock: respx.MockRouter
) -> None:
    route = respx_mock.post(f"{URL}/ReadVms").mock(_refusal(429, "24", **{"retry-after": "999"}))
    with pytest.raises(Throttled):
        await client.check_credentials()
    assert route.call_count == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "1", Unauthorized),
        (401, "4000", Unauthorized),
        (401, "5", Forbidden),
        (401, "7", Forbidden),
        (401, "13", Unauthorized),
        (401, "14", Forbidden),
        (403, "8", Forbidden),
        (403, "", Forbidden),
        (400, "0", InvalidRequest),
        (400, "4026", InvalidRequest),
        (400, "7000", InvalidRequest),
        (400, "5023", NotFound),
        (400, "5054", NotFound),
        (400, "5063", NotFound),
        (400, "5064", NotFound),
        (404, "", NotFound),
        (409, "6007", Conflict),
        (409, "9000", AlreadyExists),
        (409, "9015", AlreadyExists),
        (409, "9002", Conflict),
        (409, "9003", Conflict),
        (409, "9004", Conflict),
        (409, "9063", Conflict),
        (409, "", Conflict),
        (424, "1021", Conflict),
        (400, "10018", CapacityExhausted),
        (400, "10026", CapacityExhausted),
        (503, "6", Throttled),
        (429, "24", Throttled),
        (429, "", Throttled),
        (500, "2000", ServiceFault),
        (503, "", ServiceFault),
        (301, "", InvalidRequest),
    ],
)
async def test_codes_are_errors_that_say_what_to_do(
    client: OutscaleClient, respx_mock: respx.MockRouter, tune: Tune, status: int, code: str, kind: type[ApiError]
) -> None:
    tune(api_retry_time=0)
    respx_mock.post(f"{URL}/ReadVms").mock(_refusal(status, code, **{"retry-after": "9"}))
    with pytest.raises(ApiError) as caught:
        await client.vm("i-1")
    assert type(caught.value) is kind
    assert caught.value.hint or status == 301


def test_every_code_of_the_table_has_a_meaning() -> None:
    yaml = pytest.importorskip("yaml")
    package = pytest.importorskip("osc_sdk_python")
    table = yaml.safe_load((Path(package.__file__).parent / "resources" / "gateway_errors.yaml").read_text())
    kinds: dict[str, set[type[ApiError]]] = {}
    for code, entry in table.items():
        error = api_error(_refusal(400, str(code), entry["Type"]), "ReadVms", "VM i-1")
        assert error.hint
        kinds.setdefault(entry["Type"].split()[0], set()).add(type(error))
    assert kinds == {
        "InvalidParameterValue": {InvalidRequest},
        "InvalidResource": {NotFound},
        "InvalidState": {Conflict},
        "ResourceConflict": {Conflict, AlreadyExists},
        "TooManyResources": {CapacityExhausted},
    }


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (httpx.Response(400, text="<html>bad gateway</html>"), "<html>bad gateway</html>"),
        (httpx.Response(400), "Bad Request"),
        (httpx.Response(400, json=["odd"]), '["odd"]'),
        (httpx.Response(400, json={"Errors": [{}]}), "Error: (no details)"),
        (
            httpx.Response(400, json={"Errors": [{"Type": "A", "Details": "b"}, {"Type": "C", "Details": "d"}]}),
            "A: b; C: d",
        ),
    ],
)
async def test_refusals_of_other_shapes_are_told_as_they_are(
    client: OutscaleClient, respx_mock: respx.MockRouter, reply: httpx.Response, why: str
) -> None:
    respx_mock.post(f"{URL}/ReadVms").mock(reply)
    with pytest.raises(InvalidRequest) as caught:
        await client.vm("i-1")
    assert caught.value.why == why


async def test_a_reply_needs_no_content_type(client: OutscaleClient, respx_mock: respx.MockRouter) -> None:
    content = json.dumps({"Vms": [VM], **CONTEXT}).encode()
    respx_mock.post(f"{URL}/ReadVms").mock(httpx.Response(200, content=content, headers={"content-type": "text/plain"}))
    assert (await client.vm("i-1")).placement.subregion_name == "eu-west-2a"


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"[]"])
async def test_a_reply_that_is_no_object_is_the_services_fault(
    client: OutscaleClient, respx_mock: respx.MockRouter, tune: Tune, content: bytes
) -> None:
    tune(api_retry_time=0)
    respx_mock.post(f"{URL}/ReadVms").mock(httpx.Response(200, content=content))
    with pytest.raises(ServiceFault, match="no JSON object"):
        await client.check_credentials()


@pytest.mark.parametrize("answer", [{}, {"Vms": None}, {"Vms": [{"VmId": "i-1"}]}])
async def test_a_reply_that_lacks_something_says_what(
    client: OutscaleClient, respx_mock: respx.MockRouter, answer: dict[str, Any]
) -> None:
    respx_mock.post(f"{URL}/ReadVms").mock(_answer(**answer))
    with pytest.raises(ServiceFault, match=r"Vms|State"):
        await client.vm("i-1")


@pytest.mark.parametrize(
    ("action", "key", "call"),
    [
        ("ReadVms", "Vms", lambda c: c.vm("i-9")),
        ("ReadImages", "Images", lambda c: c.image("ami-9")),
        ("ReadVolumes", "Volumes", lambda c: c.volume("vol-9")),
        ("ReadSnapshots", "Snapshots", lambda c: c.snapshot("snap-9")),
    ],
)
async def test_what_is_not_there_is_not_found(
    client: OutscaleClient, respx_mock: respx.MockRouter, action: str, key: str, call: Call
) -> None:
    respx_mock.post(f"{URL}/{action}").mock(_answer(**{key: []}))
    with pytest.raises(NotFound, match="-9: there is none") as caught:
        await call(client)
    assert caught.value.request_id


@pytest.mark.parametrize(
    ("action", "key", "item", "filters", "wire"),
    [
        ("ReadImages", "Images", IMAGE, ImageFilters(image_names=["gold*"]), {"ImageNames": ["gold*"]}),
        (
            "ReadVolumes",
            "Volumes",
            VOLUME,
            VolumeFilters(client_tokens=["t"], tags=["K=V"]),
            {"ClientTokens": ["t"], "Tags": ["K=V"]},
        ),
        ("ReadSnapshots", "Snapshots", SNAPSHOT, SnapshotFilters(tag_keys=["K"]), {"TagKeys": ["K"]}),
        (
            "ReadTags",
            "Tags",
            {"Key": "K", "Value": "V", "ResourceId": "vol-1", "ResourceType": "volume"},
            TagFilters(keys=["K"]),
            {"Keys": ["K"]},
        ),
    ],
)
async def test_lists_are_read_page_by_page(
    client: OutscaleClient,
    respx_mock: respx.MockRouter,
    action: str,
    key: str,
    item: dict[str, Any],
    filters: Any,
    wire: dict[str, Any],
) -> None:
    pages: dict[str | None, dict[str, Any]] = {
        None: {key: [item, item], "NextPageToken": "dG9rZW4="},
        "dG9rZW4=": {key: [], "NextPageToken": "bW9yZQ=="},
        "bW9yZQ==": {key: [item]},
    }
    asked: list[dict[str, Any]] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return _answer(**pages[asked[-1].get("NextPageToken")])

    respx_mock.post(f"{URL}/{action}").mock(side_effect=reply)
    lists: dict[str, Callable[[Any], AsyncIterator[BaseModel]]] = {
        "ReadImages": client.images,
        "ReadVolumes": client.volumes,
        "ReadSnapshots": client.snapshots,
        "ReadTags": client.tags,
    }
    found = [model async for model in lists[action](filters)]
    assert len(found) == 3
    assert asked[0] == {"Filters": wire, "ResultsPerPage": 1000}
    assert [body.get("NextPageToken") for body in asked] == list(pages)


def test_replies_of_the_document_are_read() -> None:
    vm = Vm.model_validate(
        {**VM, "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Bsu": {"VolumeId": "vol-1", "State": "attached"}}]}
    )
    assert [(device.device_name, device.bsu.volume_id) for device in vm.block_device_mappings] == [
        ("/dev/sda1", "vol-1")
    ]
    volume = Volume.model_validate(
        {
            **VOLUME,
            "CreationDate": "2010-10-01T12:34:56.789Z",
            "LinkedVolumes": [{"VolumeId": "vol-1", "VmId": "i-1", "DeviceName": "/dev/xvdf", "State": "attaching"}],
        }
    )
    assert volume.linked_volumes[0].vm_id == "i-1"
    image = Image.model_validate(
        {
            **IMAGE,
            "State": "a state of tomorrow",
            "CreationDate": "2026-11-21",
            "StateComment": {"StateCode": "x", "StateMessage": "y"},
            "PermissionsToLaunch": {"GlobalPermission": True, "AccountIds": []},
            "BlockDeviceMappings": [{"DeviceName": "/dev/sdb", "VirtualDeviceName": "ephemeral0"}],
        }
    )
    assert image.creation_date == datetime(2026, 11, 21, tzinfo=UTC)
    assert image.permissions_to_launch.global_permission
    assert image.state_comment.state_message == "y"


@pytest.mark.parametrize("token", ["", "with space", "a" * 65, "under_score"])
def test_a_client_token_has_a_form(token: str) -> None:
    with pytest.raises(ValidationError):
        VolumeCreate(subregion_name="eu-west-2a", client_token=token)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    package = pytest.importorskip("osc_sdk_python")
    text = (Path(package.__file__).parent / "resources" / "outscale.yaml").read_text()
    loaded: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


class TestTheDocument:
    """The vendor's API document, as its own client package carries it."""

    @pytest.mark.parametrize(
        ("schema", "model"),
        [
            ("FiltersImage", ImageFilters),
            ("FiltersVolume", VolumeFilters),
            ("FiltersSnapshot", SnapshotFilters),
            ("FiltersTag", TagFilters),
            ("CreateImageRequest", ImageCreate),
            ("CreateVolumeRequest", VolumeCreate),
            ("BlockDeviceMappingImage", ImageDevice),
            ("BsuToCreate", Bsu),
            ("PermissionsOnResourceCreation", PermissionsChange),
            ("PermissionsOnResource", PermissionsSet),
            ("Image", Image),
            ("Volume", Volume),
            ("Vm", Vm),
        ],
    )
    def test_has_every_field_of_ours(self, document: dict[str, Any], schema: str, model: type[BaseModel]) -> None:
        known = set(document["components"]["schemas"][schema]["properties"])
        assert {field.alias for field in model.model_fields.values()} <= known

    @pytest.mark.parametrize("action", CALLS)
    async def test_has_examples_that_are_read(
        self, document: dict[str, Any], client: OutscaleClient, respx_mock: respx.MockRouter, action: str
    ) -> None:
        content = document["paths"][f"/{action}"]["post"]["responses"]["200"]["content"]["application/json"]
        for example in content["examples"].values():
            respx_mock.post(f"{URL}/{action}").mock(httpx.Response(200, json=example["value"]))
            await CALLS[action][0](client)
