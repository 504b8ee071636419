"""A typed client for the part of the OUTSCALE API that builds need (OpenAPI document 1.42.0)."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from blocks.errors import NotFound, ServiceFault
from blocks.http import new_connections, retry_after, transport_errors, until_it_passes
from blocks.outscale.models import (
    Account,
    Image,
    ImageCreate,
    ImageFilters,
    PermissionsChange,
    ResourceTag,
    Snapshot,
    SnapshotFilters,
    TagFilters,
    Vm,
    Volume,
    VolumeCreate,
    VolumeFilters,
)
from blocks.outscale.rate import SharedRate, shared_rate
from blocks.outscale.refusals import api_error
from blocks.outscale.signing import Osc4Auth

_PAGE = 1000

ModelT = TypeVar("ModelT", bound=BaseModel)


class OutscaleClient:
    """One account's view of one region. Use it as an async context manager; it may be shared by many builds.

    What can be asked twice is tried again while the fault is one that passes: reads, deletes, what sets a value (tags,
    permissions), and creates with a client token. The rest (an OMI, a link and its end) is tried again only when it was
    certainly not done; otherwise it is a `ReplyLost` or `ServiceFault`, and the caller looks whether it was.

    Every try takes a slot of the rate that all builds of this host share.

    Args:
        endpoint: URL up to and without the action, such as `https://api.eu-west-2.outscale.com/api/v1`.
        region: The region that requests are signed for.
        access_key: Id of the account's access key.
        secret_key: Its secret.
        verify: Whether the server's certificate is verified; or a context, which may hold a client certificate.
        rate: None: that of this host for this endpoint and access key.
        transport: For tests: what carries the requests.
    """

    def __init__(
        self,
        endpoint: str,
        region: str,
        access_key: str,
        secret_key: SecretStr,
        *,
        verify: bool | ssl.SSLContext = True,
        rate: SharedRate | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.region = region
        self.requests = 0
        """How many were sent so far, tries included."""
        self._rate = rate or shared_rate(self.endpoint, access_key)
        self._http = new_connections(self.endpoint, verify=verify, transport=transport)
        self._http.auth = Osc4Auth(access_key, secret_key, region)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    # -- the account and its VMs -----------------------------------------------------------------------------------

    async def check_credentials(self) -> None:
        """Make sure that the access key is good and may read VMs.

        Raises:
            Unauthorized: it is not good.
            Forbidden: it is, and may not.
        """
        await self._call("ReadVms", f"region {self.region}", {"DryRun": True}, repeatable=True)

    async def accounts(self) -> list[Account]:
        """The account that the access key belongs to."""
        resource = "accounts"
        reply = await self._call("ReadAccounts", resource, {}, repeatable=True)
        return [_parse(Account, item, resource) for item in _list(reply, "Accounts", resource)]

    async def vm(self, vm_id: str) -> Vm:
        """View a VM.

        Raises:
            NotFound: there is none of that id in this region and account.
        """
        return await self._one(Vm, "ReadVms", "Vms", f"VM {vm_id}", {"VmIds": [vm_id]})

    # -- images (OMIs) ---------------------------------------------------------------------------------------------

    async def image(self, image_id: str) -> Image:
        """View an OMI: an own one, a public one or one that was shared with this account.

        Raises:
            NotFound: there is none, or it may not be seen.
        """
        return await self._one(Image, "ReadImages", "Images", f"OMI {image_id}", {"ImageIds": [image_id]})

    def images(self, filters: ImageFilters) -> AsyncIterator[Image]:
        """All OMIs that match and may be seen, in no order."""
        return self._pages(Image, "ReadImages", "Images", "OMIs", _wire(filters))

    async def create_image(self, request: ImageCreate) -> Image:
        """Register an OMI of snapshots, or copy one. Its name is unique in the account.

        Raises:
            AlreadyExists: the account has an OMI of that name.
        """
        return await self._make(Image, "CreateImage", "Image", f"OMI {request.image_name}", _wire(request))

    async def update_image(
        self,
        image_id: str,
        *,
        permissions: PermissionsChange | None = None,
        description: str | None = None,
        product_codes: Sequence[str] | None = None,
    ) -> Image:
        """Change what is given, and leave the rest as it is. Permissions are who may launch VMs of the OMI."""
        body = _given(
            ImageId=image_id,
            PermissionsToLaunch=_wire(permissions) if permissions else None,
            Description=description,
            ProductCodes=None if product_codes is None else list(product_codes),
        )
        return await self._make(Image, "UpdateImage", "Image", f"OMI {image_id}", body, repeatable=True)

    async def delete_image(self, image_id: str) -> None:
        """Delete an OMI. Its snapshots stay."""
        await self._call("DeleteImage", f"OMI {image_id}", {"ImageId": image_id}, repeatable=True)

    # -- volumes ---------------------------------------------------------------------------------------------------

    async def volume(self, volume_id: str) -> Volume:
        """View a volume.

        Raises:
            NotFound: there is none.
        """
        return await self._one(Volume, "ReadVolumes", "Volumes", f"volume {volume_id}", {"VolumeIds": [volume_id]})

    def volumes(self, filters: VolumeFilters) -> AsyncIterator[Volume]:
        """All volumes of the account that match, in no order."""
        return self._pages(Volume, "ReadVolumes", "Volumes", "volumes", _wire(filters))

    async def create_volume(self, request: VolumeCreate) -> Volume:
        """Make a volume, or get the one that an earlier request with the same client token made."""
        resource = f"volume with client token {request.client_token}"
        return await self._make(Volume, "CreateVolume", "Volume", resource, _wire(request), repeatable=True)

    async def link_volume(self, volume_id: str, vm_id: str, device_name: str) -> None:
        """Begin to attach a volume to a VM of its subregion, under a free device name (`/dev/xvdX`, X from b to z).

        Raises:
            Conflict: the name is taken, or the volume is not available.
        """
        body = {"VolumeId": volume_id, "VmId": vm_id, "DeviceName": device_name}
        await self._call("LinkVolume", f"volume {volume_id} as {device_name} of VM {vm_id}", body, repeatable=False)

    async def unlink_volume(self, volume_id: str, *, force: bool = False) -> None:
        """Begin to detach a volume. `force` may lose what the VM has not written.

        Raises:
            Conflict: it is not attached (code 9063), or in a state that does not allow it.
        """
        body = {"VolumeId": volume_id, **({"ForceUnlink": True} if force else {})}
        await self._call("UnlinkVolume", f"volume {volume_id}", body, repeatable=False)

    async def delete_volume(self, volume_id: str) -> None:
        """Delete a volume that is not attached. Snapshots of it stay."""
        await self._call("DeleteVolume", f"volume {volume_id}", {"VolumeId": volume_id}, repeatable=True)

    # -- snapshots -------------------------------------------------------------------------------------------------

    async def snapshot(self, snapshot_id: str) -> Snapshot:
        """View a snapshot.

        Raises:
            NotFound: there is none, or it may not be seen.
        """
        filters = {"SnapshotIds": [snapshot_id]}
        return await self._one(Snapshot, "ReadSnapshots", "Snapshots", f"snapshot {snapshot_id}", filters)

    def snapshots(self, filters: SnapshotFilters) -> AsyncIterator[Snapshot]:
        """All snapshots that match and may be seen, in no order."""
        return self._pages(Snapshot, "ReadSnapshots", "Snapshots", "snapshots", _wire(filters))

    async def create_snapshot(self, volume_id: str, *, description: str, client_token: str) -> Snapshot:
        """Take a snapshot of a volume, or get the one that an earlier request with the same client token took."""
        body = {"VolumeId": volume_id, "Description": description, "ClientToken": client_token}
        resource = f"snapshot of volume {volume_id} with client token {client_token}"
        return await self._make(Snapshot, "CreateSnapshot", "Snapshot", resource, body, repeatable=True)

    async def update_snapshot(self, snapshot_id: str, permissions: PermissionsChange) -> Snapshot:
        """Change who may make volumes of a snapshot."""
        body = {"SnapshotId": snapshot_id, "PermissionsToCreateVolume": _wire(permissions)}
        resource = f"snapshot {snapshot_id}"
        return await self._make(Snapshot, "UpdateSnapshot", "Snapshot", resource, body, repeatable=True)

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot that no OMI stands on."""
        await self._call("DeleteSnapshot", f"snapshot {snapshot_id}", {"SnapshotId": snapshot_id}, repeatable=True)

    # -- tags ------------------------------------------------------------------------------------------------------

    async def create_tags(self, resource_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        """Put tags on resources, all at once; the value of a tag that is there already is replaced."""
        body = {
            "ResourceIds": list(resource_ids),
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }
        await self._call("CreateTags", f"tags of {', '.join(resource_ids)}", body, repeatable=True)

    def tags(self, filters: TagFilters) -> AsyncIterator[ResourceTag]:
        """All tags that match, each with the resource that it is on."""
        return self._pages(ResourceTag, "ReadTags", "Tags", "tags", _wire(filters))

    # -- the wire --------------------------------------------------------------------------------------------------

    async def _one(
        self, model: type[ModelT], action: str, key: str, resource: str, filters: dict[str, list[str]]
    ) -> ModelT:
        reply = await self._call(action, resource, {"Filters": filters}, repeatable=True)
        found = _list(reply, key, resource)
        if not found:
            raise NotFound(
                "there is none",
                resource=resource,
                hint=f"Check the id, the region ({self.region}), and that this account may see it.",
                request_id=_request_id(reply),
            )
        return _parse(model, found[0], resource)

    async def _pages(
        self, model: type[ModelT], action: str, key: str, resource: str, filters: dict[str, Any]
    ) -> AsyncIterator[ModelT]:
        body: dict[str, Any] = {"Filters": filters, "ResultsPerPage": _PAGE}
        while True:
            reply = await self._call(action, resource, body, repeatable=True)
            for item in _list(reply, key, resource):
                yield _parse(model, item, resource)
            if not reply.get("NextPageToken"):
                return
            body["NextPageToken"] = reply["NextPageToken"]

    async def _make(
        self,
        model: type[ModelT],
        action: str,
        key: str,
        resource: str,
        body: dict[str, Any],
        *,
        repeatable: bool = False,
    ) -> ModelT:
        reply = await self._call(action, resource, body, repeatable=repeatable)
        return _parse(model, reply.get(key), resource)

    async def _call(self, action: str, resource: str, body: dict[str, Any], *, repeatable: bool) -> dict[str, Any]:
        content = json.dumps(body).encode()
        asked: float | None = None

        async def once() -> dict[str, Any]:
            nonlocal asked
            asked = None
            async with self._rate.slot(), transport_errors(self.endpoint, resource):
                self.requests += 1
                reply = await self._http.post(
                    f"/{action}", content=content, headers={"Content-Type": "application/json; charset=utf-8"}
                )
            if reply.is_success:
                return _body(reply, resource)
            asked = retry_after(reply)
            raise api_error(reply, action, resource)

        return await until_it_passes(once, repeatable=repeatable, retry_after=lambda: asked)


def _body(reply: httpx.Response, resource: str) -> dict[str, Any]:
    # The content type is not looked at: some endpoints leave it out.
    try:
        body = json.loads(reply.content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ServiceFault(
            "the region's reply is no JSON object",
            resource=resource,
            why=reply.text[:200],
            hint="Check the endpoint: something else may have answered. What was asked for may have been done.",
            status=reply.status_code,
        )
    return body


def _list(reply: dict[str, Any], key: str, resource: str) -> list[Any]:
    items = reply.get(key)
    if not isinstance(items, list):
        raise ServiceFault(f"the region's reply has no {key}", resource=resource, request_id=_request_id(reply))
    return items


def _parse(model: type[ModelT], item: Any, resource: str) -> ModelT:
    try:
        return model.model_validate(item)
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'all'}: {e['msg']}" for e in error.errors())
        raise ServiceFault(
            f"the region's reply holds no {model.__name__} as its API document says",
            resource=resource,
            why=where,
            hint="What was asked for may have been done.",
        ) from None


def _request_id(reply: dict[str, Any]) -> str:
    context = reply.get("ResponseContext")
    return str(context.get("RequestId") or "") if isinstance(context, dict) else ""


def _wire(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _given(**body: Any) -> dict[str, Any]:
    return {key: value for key, value in body.items() if value is not None}
