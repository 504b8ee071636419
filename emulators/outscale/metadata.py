"""The metadata service of the VM that this machine is."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from emulators.outscale.region import Place


def metadata_app(place: Place) -> Starlette:
    """`GET /latest/meta-data/instance-id` and `…/placement/availability-zone`, as plain text."""
    leaves = {"instance-id": place.vm_id, "placement/availability-zone": place.subregion}

    async def leaf(request: Request) -> Response:
        found = leaves.get(request.path_params["leaf"])
        return PlainTextResponse(found) if found is not None else PlainTextResponse("Not Found", 404)

    return Starlette(routes=[Route("/{version}/meta-data/{leaf:path}", leaf)])
