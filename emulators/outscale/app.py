"""The API application: what is the same for every call. `actions` has the calls."""

from __future__ import annotations

import logging
import re
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulators.outscale import bodies, errors, wire
from emulators.outscale.actions import ACTIONS, Call
from emulators.outscale.errors import ApiError
from emulators.outscale.region import OutscaleRegion
from emulators.outscale.signatures import Message
from emulators.region.connections import Dropped
from emulators.region.faults import Fault, Struck
from emulators.region.mishaps import before_answer

log = logging.getLogger(__name__)

_PATH = re.compile(r"/(?:api/(?:v1|latest)|oapi/latest)/(\w+)")
_NAMED_BY = ("ImageName", "DeviceName", "VolumeId", "SnapshotId", "ImageId")
_DESCRIBED_BY = ("Description", "ClientToken")


def api_app(region: OutscaleRegion) -> Starlette:
    """The API of a region."""

    async def endpoint(request: Request) -> Response:
        return await _serve(region, request)

    methods = ["POST", "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(routes=[Route("/{rest:path}", endpoint, methods=methods)])


async def _serve(region: OutscaleRegion, request: Request) -> Response:
    body, request_id = await request.body(), str(uuid4())
    action = _action(request.url.path)
    told = _told(body)
    name = _first(told, _NAMED_BY)
    entry = region.requests.add(
        action or "unknown", request.method, request.url.path, name, _first(told, _DESCRIBED_BY)
    )
    struck = Struck(region.faults.draw(action or "unknown", name))
    reply = await before_answer(struck, request, lambda fault: _error(request_id, _status_fault(fault)))
    if reply is None:
        reply = _answer(region, request, body, action, struck, request_id)
        if struck.by("drop_after"):
            reply = Dropped()
    entry.status = 0 if isinstance(reply, Dropped) else reply.status_code
    return reply


def _answer(
    region: OutscaleRegion, request: Request, body: bytes, action: str | None, struck: Struck, request_id: str
) -> Response:
    try:
        if request.method != "POST":
            raise ApiError(405, 2, "AccessDenied", "Method not allowed")
        _refuse(struck, action)
        found = ACTIONS.get(action or "")
        is_open = found is not None and found.is_open and "authorization" not in request.headers
        account = region.owner if is_open else region.gate.admit(_message(request, body), action or "")
        if found is None:
            raise errors.not_supported(f"There is no call {request.url.path}.")
        parsed = bodies.parse(found.body, bodies.load(body))
        content = {} if parsed.dry_run else found.handler(Call(region, account, struck), parsed)
    except ApiError as error:
        return _error(request_id, error)
    except Exception:
        log.exception("%s failed", action)
        return _error(request_id, errors.internal())
    return JSONResponse({**content, "ResponseContext": {"RequestId": request_id}})


def _action(path: str) -> str | None:
    found = _PATH.fullmatch(re.sub("/{2,}", "/", path))
    return found[1] if found else None


def _message(request: Request, body: bytes) -> Message:
    raw_path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    return Message(
        method=request.method,
        path=raw_path.partition(b"?")[0].decode("latin-1"),
        query=request.url.query,
        headers={name.lower(): value for name, value in request.headers.items()},
        body=body,
    )


def _refuse(struck: Struck, action: str | None) -> None:
    if throttle := struck.by("throttle"):
        raise errors.throttled(int(throttle.number("code", 24)))
    if quota := struck.by("quota"):
        raise errors.too_many(int(quota.number("code", errors.QUOTAS.get(action or "", 10018))))


def _status_fault(fault: Fault) -> ApiError:
    status = int(fault.number("status", 503))
    usual = {401: 1, 429: 24, 503: 6}.get(status, 2000)
    return errors.of_code(int(fault.text("error_code") or usual), status, fault.text("message") or "")


def _told(body: bytes) -> dict[str, Any]:
    try:
        return bodies.load(body)
    except ApiError:
        return {}


def _first(told: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((told[name] for name in names if isinstance(told.get(name), str)), None)


def _error(request_id: str, error: ApiError) -> Response:
    said = {"Type": error.kind, "Details": error.details, "Code": str(error.code)}
    content: wire.Json = {"Errors": [said], "ResponseContext": {"RequestId": request_id}}
    return JSONResponse(content, error.status)
