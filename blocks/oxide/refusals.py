"""The errors for what an Oxide region refuses."""

from __future__ import annotations

import httpx

from blocks.errors import (
    AlreadyExists,
    ApiError,
    CapacityExhausted,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    ServiceFault,
    Throttled,
    Unauthorized,
)

_BY_STATUS: dict[int, tuple[type[ApiError], str]] = {
    400: (InvalidRequest, "The request is wrong as it is: mend the option that the message names."),
    401: (
        Unauthorized,
        "Check the token: it may have expired. Make a new one and put it where the build reads it.",
    ),
    403: (Forbidden, "Ask for the collaborator role on this project, or use a token of a user who has it."),
    404: (NotFound, "Check the name and the project, and that the token's user may see it."),
    409: (Conflict, "Something else is changing the same resource: try again when it is through."),
    410: (NotFound, "It is gone for good."),
    429: (Throttled, "Too many requests at once: run fewer builds side by side."),
    507: (
        CapacityExhausted,
        "Nothing was lost. Free capacity or quota (instances, memory, disks, addresses), or ask for less.",
    ),
}


def refusal(reply: httpx.Response, request: str, resource: str) -> ApiError:
    """The error for a refusal. Bodies have `message`, `request_id` and often `error_code` (document: Error)."""
    try:
        body = reply.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    code = str(body.get("error_code") or "")
    kind, hint = _BY_STATUS.get(
        reply.status_code,
        (ServiceFault, "The region is at fault; it passes, as a rule. Run the build again.")
        if reply.status_code >= 500
        else (InvalidRequest, ""),
    )
    if code == "ObjectAlreadyExists":
        kind, hint = AlreadyExists, "Choose another name, or remove the one that has it."
    return kind(
        f"the region refused {request}",
        resource=resource,
        why=str(body.get("message") or reply.text[:500] or reply.reason_phrase),
        hint=hint,
        status=reply.status_code,
        code=code,
        request_id=str(body.get("request_id") or reply.headers.get("x-request-id", "")),
    )
