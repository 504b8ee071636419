"""The control endpoint: what exists, what was asked, what is to go wrong. Not part of any cloud's API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulators.region.faults import Fault, Faults
from emulators.region.requests import RequestLog


class Controlled(Protocol):
    """What the control endpoint needs of a region."""

    faults: Faults
    requests: RequestLog

    def inventory(self) -> dict[str, Any]:
        """Everything that exists: `{"machines": name, "resources": {kind: [{id, name, state, …}]}}`."""
        ...


def control_app(region: Controlled, more: Sequence[Route] = ()) -> Starlette:
    """The control endpoint of a region, with `more` of what only its kind of region has.

    - `GET /inventory`: everything that exists, with the paths of disk files.
    - `GET /requests?since=N`: `{"last": n, "requests": [...]}`, those numbered above N.
    - `GET /faults`, `POST /faults` (a `Fault`), `DELETE /faults`, `DELETE /faults/{id}`.
    """

    async def inventory(_: Request) -> Response:
        return JSONResponse(region.inventory())

    async def requests(request: Request) -> Response:
        try:
            since = int(request.query_params.get("since", "0"))
        except ValueError:
            return JSONResponse({"message": "since is a number"}, 400)
        found = [entry.model_dump(mode="json") for entry in region.requests.since(since)]
        return JSONResponse({"last": region.requests.last, "requests": found})

    async def list_faults(_: Request) -> Response:
        return JSONResponse({"faults": [fault.model_dump() for fault in region.faults]})

    async def add_fault(request: Request) -> Response:
        try:
            fault = region.faults.add(Fault.model_validate_json(await request.body()))
        except ValidationError as error:
            return JSONResponse({"message": str(error)}, 400)
        except ValueError as error:
            return JSONResponse({"message": str(error)}, 400)
        return JSONResponse(fault.model_dump(), 201)

    async def clear_faults(_: Request) -> Response:
        region.faults.clear()
        return Response(status_code=204)

    async def remove_fault(request: Request) -> Response:
        return Response(status_code=204 if region.faults.remove(request.path_params["number"]) else 404)

    return Starlette(
        routes=[
            Route("/inventory", inventory),
            Route("/requests", requests),
            Route("/faults", list_faults, methods=["GET"]),
            Route("/faults", add_fault, methods=["POST"]),
            Route("/faults", clear_faults, methods=["DELETE"]),
            Route("/faults/{number:int}", remove_fault, methods=["DELETE"]),
            *more,
        ]
    )
