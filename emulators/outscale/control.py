"""What can be set in a region while it serves, beyond what the control endpoint of every region has."""

from __future__ import annotations

import json

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulators.outscale import quotas
from emulators.outscale.region import OutscaleRegion
from emulators.outscale.times import Times
from emulators.region.control import control_app

_LIMITS = TypeAdapter(dict[str, int])


def outscale_control_app(region: OutscaleRegion) -> Starlette:
    """The control endpoint, with two more settings.

    - `GET /times`, `PUT /times` (`Times`, or some of it): how long the cloud takes from now on.
    - `GET /quotas`, `PUT /quotas` (`{name: limit}`; 0: none): what each account may have at most.
    """

    async def times(_: Request) -> Response:
        return JSONResponse(region.times.model_dump())

    async def set_times(request: Request) -> Response:
        try:
            asked = json.loads(await request.body())
            region.times = Times.model_validate({**region.times.model_dump(), **asked})
        except (ValidationError, ValueError, TypeError) as error:
            return JSONResponse({"message": str(error)}, 400)
        return await times(request)

    async def limits(_: Request) -> Response:
        return JSONResponse({name: region.limits.get(name, 0) for name in quotas.QUOTAS})

    async def set_limits(request: Request) -> Response:
        try:
            asked = _LIMITS.validate_json(await request.body())
            quotas.check_names(asked)
        except ValueError as error:
            return JSONResponse({"message": str(error)}, 400)
        region.limits.update(asked)
        return await limits(request)

    app = control_app(region)
    app.router.routes += [
        Route("/times", times, methods=["GET"]),
        Route("/times", set_times, methods=["PUT"]),
        Route("/quotas", limits, methods=["GET"]),
        Route("/quotas", set_limits, methods=["PUT"]),
    ]
    return app
