"""The metadata service of the VMs that this machine plays."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from emulators.outscale.region import Place


def metadata_app(place: Place) -> Starlette:
    """`GET /latest/meta-data/instance-id` and `…/placement/availability-zone`, as plain text.

    They speak of the VM that this machine is. Another of its VMs has them below `/ID`.
    """

    async def leaf(request: Request) -> Response:
        vm_id = request.path_params.get("vm", place.vm_id)
        leaves = {"instance-id": vm_id, "placement/availability-zone": place.vms.get(vm_id)}
        found = leaves.get(request.path_params["leaf"]) if vm_id in place.vms else None
        return PlainTextResponse(found) if found is not None else PlainTextResponse("Not Found", 404)

    return Starlette(
        routes=[
            Route("/{version}/meta-data/{leaf:path}", leaf),
            Route("/{vm}/{version}/meta-data/{leaf:path}", leaf),
        ]
    )
