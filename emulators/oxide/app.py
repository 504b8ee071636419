"""The API application: what is the same for every request. `routes` has the operations."""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulators.oxide import errors, wire
from emulators.oxide.errors import ApiError
from emulators.oxide.power import Power
from emulators.oxide.records import Project
from emulators.oxide.region import OxideRegion, Struck
from emulators.region.connections import Dropped
from emulators.region.faults import Fault
from emulators.region.mishaps import before_answer

log = logging.getLogger(__name__)

NEWEST_VERSION = "2026073100.0.0"
"""The schemas are those of 2026060800.0.0; they did not change up to this version."""

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_MAX_BODY = 1 << 20


@dataclass
class Call:
    """One request to one operation."""

    region: OxideRegion
    power: Power
    path: dict[str, str]
    query: dict[str, str]
    body: bytes
    struck: Struck

    @property
    def named_project(self) -> str | None:
        """`?project=`, as it came."""
        return self.query.get("project")

    @property
    def project(self) -> Project:
        """The project of a request that must name one."""
        return self.region.project(self.named_project)

    def number(self, name: str) -> int | None:
        """A number of the query."""
        text = self.query.get(name)
        if text is None:
            return None
        if not text.isdecimal():
            raise errors.bad_request(f"unable to parse query string: {name}: invalid digit found in string")
        return int(text)


@dataclass(frozen=True)
class Operation:
    """One operation of the API document."""

    id: str
    method: str
    path: str
    handler: Callable[[Call], Awaitable[wire.Json | None]]
    status: int
    needs_token: bool = True
    max_body: int = _MAX_BODY


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

    return Starlette(routes=[route(operation) for operation in operations], exception_handlers={HTTPException: refused})


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
        call = Call(region, power, dict(request.path_params), dict(request.query_params), body, struck)
        reply = await _answer(operation, call, request, request_id)
        if struck.by("drop_after"):
            reply = Dropped()
    entry.status = 0 if isinstance(reply, Dropped) else reply.status_code
    reply.headers["x-request-id"] = request_id
    return reply


def _refusal(fault: Fault, request_id: str) -> Response:
    status, message = int(fault.number("status", 503)), fault.text("message") or "Service Unavailable"
    return _error(request_id, ApiError(status, fault.text("error_code"), message))


async def _answer(operation: Operation, call: Call, request: Request, request_id: str) -> Response:
    try:
        _check_version(request.headers.get("api-version"))
        if len(call.body) > operation.max_body:
            raise errors.bad_request(f"request body exceeded maximum size of {operation.max_body} bytes")
        if operation.needs_token:
            _check_token(request.headers.get("authorization"), call.region.token)
        content = await operation.handler(call)
    except ApiError as error:
        return _error(request_id, error)
    except Exception:
        log.exception("%s failed", operation.id)
        return _error(request_id, ApiError(500, "Internal", "Internal Server Error"))
    if content is None:
        return Response(status_code=operation.status)
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


def _check_token(header: str | None, token: str) -> None:
    scheme, _, given = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise errors.unauthorized()


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
