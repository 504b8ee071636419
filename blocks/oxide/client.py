"""A typed client for the part of an Oxide region's API that builds need (OpenAPI document 2026060800.0.0)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import lru_cache
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, SecretStr

from blocks.errors import InvalidRequest, ReplyLost
from blocks.http import new_connections, retry_after, transport_errors, until_it_passes
from blocks.oxide.models import (
    AntiAffinityGroup,
    Disk,
    ExternalIp,
    FloatingIp,
    Image,
    Instance,
    InterfaceView,
    IpPool,
    Project,
    SerialConsole,
    Snapshot,
    SshKey,
    Utilization,
    Vpc,
    VpcSubnet,
)
from blocks.oxide.refusals import refusal
from blocks.oxide.requests import ImageCreate, InstanceCreate

API_VERSION = "2026060800.0.0"
_PAGE = 1000

ModelT = TypeVar("ModelT", bound=BaseModel)


@lru_cache(maxsize=512)
def _url(host: str, path: str, params: tuple[tuple[str, str], ...]) -> httpx.URL:
    # Taking a URL apart is a good part of what a request costs, and looks ask for the same again and again.
    return httpx.URL(host + path, params=params or None)


class OxideClient:
    """One user's view of one region. Use it as an async context manager; it may be shared by many builds.

    Reads, deletes, start and stop are tried again while the fault is one that passes. Creates are not, since the API
    has no idempotency keys: a lost reply is a `ReplyLost`, and the caller looks by name whether it was done.

    Args:
        host: URL of the region's API.
        token: Bearer token, with its `oxide-token-` prefix.
        verify: Whether the server's certificate is verified.
        transport: For tests: what carries the requests.
    """

    def __init__(
        self,
        host: str,
        token: SecretStr,
        *,
        verify: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.host = host.rstrip("/")
        self._http = new_connections(self.host, verify=verify, transport=transport)
        self._http.headers.update({"Authorization": f"Bearer {token.get_secret_value()}", "api-version": API_VERSION})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    # -- the silo and its projects ---------------------------------------------------------------------------------

    async def project(self, project: str) -> Project:
        """View a project by name or id."""
        return Project.model_validate(await self._get(f"/v1/projects/{project}", f"project {project}"))

    def projects(self) -> AsyncIterator[Project]:
        """All projects that the user may see."""
        return self._pages(Project, "/v1/projects", "projects", {})

    async def utilization(self) -> Utilization:
        """What the silo may have, and what of it is used."""
        return Utilization.model_validate(await self._get("/v1/utilization", "the silo's utilization"))

    # -- networks --------------------------------------------------------------------------------------------------

    async def vpc(self, vpc: str, *, project: str | None = None) -> Vpc:
        """View a VPC by id, or by name in `project`."""
        return Vpc.model_validate(await self._get(f"/v1/vpcs/{vpc}", f"VPC {vpc}", _scope(vpc, project)))

    def vpcs(self, project: str) -> AsyncIterator[Vpc]:
        """All VPCs of a project."""
        return self._pages(Vpc, "/v1/vpcs", "VPCs", {"project": project})

    async def subnet(self, subnet: str, *, project: str, vpc: str) -> VpcSubnet:
        """View a subnet by its name in a VPC of a project."""
        params = {"project": project, "vpc": vpc}
        return VpcSubnet.model_validate(await self._get(f"/v1/vpc-subnets/{subnet}", f"subnet {subnet}", params))

    def subnets(self, project: str, vpc: str) -> AsyncIterator[VpcSubnet]:
        """All subnets of a VPC."""
        return self._pages(VpcSubnet, "/v1/vpc-subnets", "subnets", {"project": project, "vpc": vpc})

    def ip_pools(self) -> AsyncIterator[IpPool]:
        """All pools of addresses that the silo may use."""
        return self._pages(IpPool, "/v1/ip-pools", "IP pools", {})

    async def floating_ip(self, floating_ip: str, *, project: str | None = None) -> FloatingIp:
        """View a floating IP by id, or by name in `project`."""
        params = _scope(floating_ip, project)
        path, resource = f"/v1/floating-ips/{floating_ip}", f"floating IP {floating_ip}"
        return FloatingIp.model_validate(await self._get(path, resource, params))

    def floating_ips(self, project: str) -> AsyncIterator[FloatingIp]:
        """All floating IPs of a project."""
        return self._pages(FloatingIp, "/v1/floating-ips", "floating IPs", {"project": project})

    async def anti_affinity_group(self, group: str, *, project: str | None = None) -> AntiAffinityGroup:
        """View an anti-affinity group by id, or by name in `project`."""
        path, resource = f"/v1/anti-affinity-groups/{group}", f"anti-affinity group {group}"
        return AntiAffinityGroup.model_validate(await self._get(path, resource, _scope(group, project)))

    def anti_affinity_groups(self, project: str) -> AsyncIterator[AntiAffinityGroup]:
        """All anti-affinity groups of a project."""
        return self._pages(AntiAffinityGroup, "/v1/anti-affinity-groups", "anti-affinity groups", {"project": project})

    # -- images ----------------------------------------------------------------------------------------------------

    async def image(self, image: str, *, project: str | None = None) -> Image:
        """View an image by id, or by name in `project` or (None) among the silo's images.

        Raises:
            NotFound: there is none.
        """
        params = _scope(image, project)
        return Image.model_validate(await self._get(f"/v1/images/{image}", f"image {image}", params))

    def images(self, project: str | None = None) -> AsyncIterator[Image]:
        """All images of a project, or (None) of the silo."""
        return self._pages(Image, "/v1/images", "images", _optional(project=project))

    async def create_image(self, project: str | None, request: ImageCreate) -> Image:
        """Make an image of a snapshot, in a project or (None) in the silo."""
        reply = await self._send("POST", "/v1/images", f"image {request.name}", _optional(project=project), request)
        return Image.model_validate(reply)

    async def delete_image(self, image_id: str) -> None:
        """Delete an image. Disks made of it stay."""
        await self._delete(f"/v1/images/{image_id}", f"image {image_id}")

    # -- SSH keys of this user ---------------------------------------------------------------------------------------

    async def ssh_key(self, key: str) -> SshKey:
        """View one of the user's public keys, by name or id."""
        return SshKey.model_validate(await self._get(f"/v1/me/ssh-keys/{key}", f"SSH key {key}"))

    def ssh_keys(self) -> AsyncIterator[SshKey]:
        """All of the user's public keys."""
        return self._pages(SshKey, "/v1/me/ssh-keys", "SSH keys", {})

    async def create_ssh_key(self, name: str, description: str, public_key: str) -> SshKey:
        """Add a public key to the user's."""
        body = {"name": name, "description": description, "public_key": public_key}
        return SshKey.model_validate(await self._send("POST", "/v1/me/ssh-keys", f"SSH key {name}", {}, body))

    async def delete_ssh_key(self, key_id: str) -> None:
        """Delete one of the user's public keys."""
        await self._delete(f"/v1/me/ssh-keys/{key_id}", f"SSH key {key_id}")

    # -- instances ---------------------------------------------------------------------------------------------------

    async def instance(self, instance: str, *, project: str | None = None) -> Instance:
        """View an instance by id, or by name in `project`."""
        params = _scope(instance, project)
        return Instance.model_validate(await self._get(f"/v1/instances/{instance}", f"instance {instance}", params))

    def instances(self, project: str) -> AsyncIterator[Instance]:
        """All instances of a project."""
        return self._pages(Instance, "/v1/instances", "instances", {"project": project})

    async def create_instance(self, project: str, request: InstanceCreate) -> Instance:
        """Make an instance and its boot disk, and start it.

        A start that fails is no error of this call: the instance is then `stopped` (ask again with `start_instance`).
        """
        reply = await self._send("POST", "/v1/instances", f"instance {request.name}", {"project": project}, request)
        return Instance.model_validate(reply)

    async def start_instance(self, instance_id: str) -> Instance:
        """Start an instance; nothing happens where it runs or starts already."""
        return await self._power(instance_id, "start")

    async def stop_instance(self, instance_id: str) -> Instance:
        """Cut an instance's power: what the guest has not written is lost. Nothing happens where it is off."""
        return await self._power(instance_id, "stop")

    async def delete_instance(self, instance_id: str) -> None:
        """Delete an instance that is stopped or failed. Its disks stay, detached."""
        await self._delete(f"/v1/instances/{instance_id}", f"instance {instance_id}")

    async def external_ips(self, instance_id: str) -> list[ExternalIp]:
        """The addresses by which an instance is reached or reaches others."""
        path = f"/v1/instances/{instance_id}/external-ips"
        return [ip async for ip in self._pages(ExternalIp, path, f"instance {instance_id}", {}, limit=False)]

    async def network_interfaces(self, instance_id: str) -> list[InterfaceView]:
        """An instance's network interfaces, with their addresses in their VPC."""
        pages = self._pages(
            InterfaceView, "/v1/network-interfaces", f"instance {instance_id}", {"instance": instance_id}
        )
        return [interface async for interface in pages]

    async def serial_console(self, instance_id: str, most_recent: int) -> SerialConsole:
        """The last `most_recent` bytes of a running instance's serial console."""
        path = f"/v1/instances/{instance_id}/serial-console"
        reply = await self._get(path, f"instance {instance_id}", {"most_recent": str(most_recent)})
        return SerialConsole.from_reply(reply)

    # -- disks and snapshots -----------------------------------------------------------------------------------------

    async def disk(self, disk: str, *, project: str | None = None) -> Disk:
        """View a disk by id, or by name in `project`."""
        return Disk.model_validate(await self._get(f"/v1/disks/{disk}", f"disk {disk}", _scope(disk, project)))

    def disks(self, project: str) -> AsyncIterator[Disk]:
        """All disks of a project."""
        return self._pages(Disk, "/v1/disks", "disks", {"project": project})

    async def delete_disk(self, disk_id: str) -> None:
        """Delete a disk that is detached or faulted."""
        await self._delete(f"/v1/disks/{disk_id}", f"disk {disk_id}")

    async def snapshot(self, snapshot: str, *, project: str | None = None) -> Snapshot:
        """View a snapshot by id, or by name in `project`."""
        params = _scope(snapshot, project)
        return Snapshot.model_validate(await self._get(f"/v1/snapshots/{snapshot}", f"snapshot {snapshot}", params))

    def snapshots(self, project: str) -> AsyncIterator[Snapshot]:
        """All snapshots of a project."""
        return self._pages(Snapshot, "/v1/snapshots", "snapshots", {"project": project})

    async def create_snapshot(self, project: str, name: str, description: str, disk: str) -> Snapshot:
        """Take a snapshot of a disk (name or id)."""
        body = {"name": name, "description": description, "disk": disk}
        reply = await self._send("POST", "/v1/snapshots", f"snapshot {name}", {"project": project}, body)
        return Snapshot.model_validate(reply)

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot. Images made of it stay."""
        await self._delete(f"/v1/snapshots/{snapshot_id}", f"snapshot {snapshot_id}")

    # -- the wire ----------------------------------------------------------------------------------------------------

    async def _get(self, path: str, resource: str, params: dict[str, str] | None = None) -> Any:
        return await self._request("GET", path, resource, params or {}, None, repeatable=True)

    async def _send(
        self, method: str, path: str, resource: str, params: dict[str, str], body: BaseModel | dict[str, Any]
    ) -> Any:
        return await self._request(method, path, resource, params, body, repeatable=False)

    async def _power(self, instance_id: str, action: str) -> Instance:
        path = f"/v1/instances/{instance_id}/{action}"
        reply = await self._request("POST", path, f"instance {instance_id}", {}, None, repeatable=True)
        return Instance.model_validate(reply)

    async def _delete(self, path: str, resource: str) -> None:
        await self._request("DELETE", path, resource, {}, None, repeatable=True)

    async def _pages(
        self, model: type[ModelT], path: str, resource: str, params: dict[str, str], *, limit: bool = True
    ) -> AsyncIterator[ModelT]:
        query = {**params, "limit": str(_PAGE)} if limit else dict(params)
        while True:
            reply = await self._get(path, resource, query)
            for item in reply["items"]:
                yield model.model_validate(item)
            # `next_page` is set whenever the page holds anything, so the last page is an empty one.
            if not reply.get("next_page"):
                return
            query["page_token"] = reply["next_page"]

    async def _request(
        self,
        method: str,
        path: str,
        resource: str,
        params: dict[str, str],
        body: BaseModel | dict[str, Any] | None,
        *,
        repeatable: bool,
    ) -> Any:
        json = body.model_dump(mode="json") if isinstance(body, BaseModel) else body
        asked: float | None = None

        async def once() -> Any:
            nonlocal asked
            asked = None
            async with transport_errors(self.host, resource):
                reply = await self._http.request(method, _url(self.host, path, tuple(params.items())), json=json)
            if reply.is_success:
                return self._contents(reply, resource, repeatable=repeatable)
            asked = retry_after(reply)
            raise refusal(reply, f"{method} {path}", resource)

        return await until_it_passes(once, repeatable=repeatable, retry_after=lambda: asked)

    def _contents(self, reply: httpx.Response, resource: str, *, repeatable: bool) -> Any:
        try:
            return reply.json() if reply.content else None
        except ValueError:
            # Something in between may have answered a create that the region carried out all the same.
            kind = InvalidRequest if repeatable else ReplyLost
            raise kind(
                f"{self.host} answered with something that is no JSON",
                resource=resource,
                why=f"Content-Type {reply.headers.get('content-type', 'unknown')}: {reply.text[:100]!r}",
                hint="Is host the URL of the region's API, and does no proxy or log-in page stand in between?",
            ) from None


def _optional(**params: str | None) -> dict[str, str]:
    return {key: value for key, value in params.items() if value is not None}


def _scope(name_or_id: str, project: str | None) -> dict[str, str]:
    # An id together with a project is refused by the API (400 InvalidRequest).
    return {} if is_id(name_or_id) else _optional(project=project)


def is_id(name_or_id: str) -> bool:
    """Whether the API takes this for an id (a UUID) and not for a name."""
    from uuid import UUID

    try:
        UUID(name_or_id)
    except ValueError:
        return False
    return True
