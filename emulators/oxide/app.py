"""The API application: what is the same for every request. `routes` has the operations.

The fault `capacity` on any operation is a 507 instead of it; its text is that of `what` (`storage`, `cpus`, `memory`,
`addresses`, `sleds`).
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from emulators.oxide import errors, serial, silos, wire
from emulators.oxide.caller import Caller
from emulators.oxide.calls import Call, Operation
from emulators.oxide.errors import ApiError
from emulators.oxide.power import Power
from emulators.oxide.quotas import CAPACITY
from emulators.oxide.region import OxideRegion, Struck
from emulators.region.connections import Dropped
from emulators.region.faults import Fault
from emulators.region.mishaps import before_answer

log = logging.getLogger(__name__)

NEWEST_VERSION = "2026073100.0.0"
"""The schemas are those of 2026060800.0.0; they did not change up to this version."""

_STREAM_ID, _STREAM = "instance_serial_console_stream", "/v1/instances/{instance}/serial-console/stream"
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def api_app(region: OxideRegion, power: Power, operations: list[Operation]) -> Starlette:
    """The API of a region."""

    def route(operation: Operation) -> Route:
        async def endpoint(request: Request) -> Response:
            return await _serve(region, power, operation, request)

        return Route(operation.path, endpoint, methods=[operation.method])

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        entry = region.requests.add("unknown", request.method, request.url.path, None, None)
        entry.status = error.status_code
        message = "Not Found" if error.status_code == 404 else "Method Not Allowed"
        return _error(str(uuid4()), ApiError(error.status_code, None, message))

    async def not_upgraded(request: Request) -> Response:
        entry = region.requests.add(_STREAM_ID, request.method, request.url.path, None, None)
        entry.status = 400
        return _error(str(uuid4()), errors.bad_request("expected connection upgrade"))

    return Starlette(
        routes=[*(route(operation) for operation in operations), _stream(region, power), Route(_STREAM, not_upgraded)],
        exception_handlers={HTTPException: refused},
    )


async def _serve(region: OxideRegion, power: Power, operation: Operation, request: Request) -> Response:
    body = await request.body()
    told = _told(body)
    entry = region.requests.add(
        operation.id, request.method, request.url.path, told.get("name"), told.get("description")
    )
    struck = Struck(region.faults.draw(operation.id, told.get("name")))
    request_id = str(uuid4())
    reply = await before_answer(struck, request, lambda fault: _refusal(fault, request_id))
    if reply is None:
        reply = await _answer(operation, _call(region, power, request, body, struck), request, request_id)
        if struck.by("drop_after"):
            reply = Dropped()
    entry.status = 0 if isinstance(reply, Dropped) else reply.status_code
    reply.headers["x-request-id"] = request_id
    return reply


def _call(region: OxideRegion, power: Power, request: HTTPConnection, body: bytes, struck: Struck) -> Call:
    host = request.headers.get("host", "localhost")
    return Call(region, power, dict(request.path_params), dict(request.query_params), body, host, struck)


def _refusal(fault: Fault, request_id: str) -> Response:
    status, message = int(fault.number("status", 503)), fault.text("message") or "Service Unavailable"
    return _error(request_id, ApiError(status, fault.text("error_code"), message))


async def _answer(operation: Operation, call: Call, request: Request, request_id: str) -> Response:
    try:
        _check_version(request.headers.get("api-version"))
        if len(call.body) > operation.max_body:
            raise errors.bad_request(f"request body exceeded maximum size of {operation.max_body} bytes")
        if operation.needs_token:
            call.who = _caller(call.region, request)
            if operation.method != "GET" and not operation.for_viewers and not call.who.may_change:
                raise errors.forbidden()
        if fault := call.struck.by("capacity"):
            raise errors.no_capacity(CAPACITY.get(fault.text("what") or "", _default_capacity(operation.id)))
        content = await operation.handler(call)
    except ApiError as error:
        return _error(request_id, error)
    except Exception:
        log.exception("%s failed", operation.id)
        return _error(request_id, errors.internal())
    if content is None:
        return Response(status_code=operation.status)
    if isinstance(content, Response):
        return content
    return JSONResponse(content, operation.status)


def _check_version(text: str | None) -> None:
    if text is None:
        return
    asked = _VERSION.fullmatch(text.strip())
    if asked is None:
        raise errors.bad_request(f'bad value for header "api-version": {text}')
    newest = _VERSION.fullmatch(NEWEST_VERSION)
    assert newest is not None
    if tuple(map(int, asked.groups())) > tuple(map(int, newest.groups())):
        raise errors.bad_request(f"server does not support this API version: {text}")


def _caller(region: OxideRegion, request: HTTPConnection) -> Caller:
    user = silos.user_of(region, request.headers.get("authorization"))
    if user is None:
        raise errors.unauthorized()
    return Caller(region, user)


def _default_capacity(operation_id: str) -> str:
    what = {"instance_start": "sleds", "floating_ip_create": "addresses"}.get(operation_id, "storage")
    return CAPACITY[what]


def _stream(region: OxideRegion, power: Power) -> WebSocketRoute:
    async def endpoint(socket: WebSocket) -> None:
        entry = region.requests.add(_STREAM_ID, "GET", socket.url.path, None, None)
        try:
            call = _call(region, power, socket, b"", Struck(region.faults.draw(_STREAM_ID)))
            _check_version(socket.headers.get("api-version"))
            call.who = _caller(region, socket)
            instance, most_recent = call.instance, call.number("most_recent") or 0
        except ApiError as error:
            entry.status = error.status
            await socket.send_denial_response(_error(str(uuid4()), error))
            return
        entry.status = 101
        await serial.stream(power, instance, most_recent, socket)

    return WebSocketRoute(_STREAM, endpoint)


def _told(body: bytes) -> dict[str, str]:
    try:
        loaded: Any = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(loaded, dict):
        return {}
    return {key: loaded[key] for key in ("name", "description") if isinstance(loaded.get(key), str)}


def _error(request_id: str, error: ApiError) -> Response:
    content: wire.Json = {"request_id": request_id, "message": error.message}
    if error.error_code is not None:
        content["error_code"] = error.error_code
    return JSONResponse(content, error.status, headers={"x-request-id": request_id})
