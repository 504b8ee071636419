"""What the region's refusals mean: its error codes in our tree of errors, each with what to do.

Sources: the gateway's error table (codes from 4000), and "Errors" in OUTSCALE's API documentation (codes below 4000 and
the HTTP statuses).
"""

from __future__ import annotations

import json
from typing import Any

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

_Meaning = tuple[type[ApiError], str]

_BAD_KEY: _Meaning = (
    Unauthorized,
    "Check the access key, its secret, the region and this host's clock. Do not just try again: four bad attempts lock "
    "the key for a minute, and every four more for a minute longer.",
)
_LOCKED = "Stop everything that uses the wrong key"
_NOT_ALLOWED: _Meaning = (
    Forbidden,
    "The access key is good. Let its user do this (EIM policy), or use the key of a user who may.",
)
_THROTTLED: _Meaning = (
    Throttled,
    "Nothing was done. Run fewer builds side by side, or lower IMAGE_BAKERY_OUTSCALE_RATE where other tools use the "
    "same account.",
)
_WRONG: _Meaning = (InvalidRequest, "The request is wrong as it is: mend the option that the message names.")
_MISSING: _Meaning = (
    NotFound,
    "Check the id and the region, and that this account may see it. What was just made may take a moment to be seen.",
)
_STATE: _Meaning = (Conflict, "Wait until the resource is in a state that allows it, then run it again.")
_TAKEN: _Meaning = (AlreadyExists, "Choose another name, or remove the one that has it.")
_DEVICE: _Meaning = (Conflict, "The device name is taken on this VM: leave `device_path` out, or name a free one.")
_CONFLICT: _Meaning = (Conflict, "Something else uses or changes the same resource: try again when it is through.")
_QUOTA: _Meaning = (
    CapacityExhausted,
    "Nothing was lost. Remove what is not needed, ask OUTSCALE for a higher quota, or ask for less.",
)
_FAULT: _Meaning = (ServiceFault, "The region is at fault; it passes, as a rule. Run the build again.")

_BY_CODE: dict[int, _Meaning] = {
    1: _BAD_KEY,
    4: _NOT_ALLOWED,
    5: _NOT_ALLOWED,
    6: _THROTTLED,
    7: _NOT_ALLOWED,
    9: _NOT_ALLOWED,
    11: (Unauthorized, f"{_LOCKED}, then ask OUTSCALE's support to unlock the access."),
    13: (Unauthorized, f"{_LOCKED}, wait a minute, and run the build again with the right one."),
    14: (
        Forbidden,
        "The account's API access rules do not let this host in: let them know its address, or give the client "
        "certificate that they ask for (x509_cert_path and x509_key_path).",
    ),
    20: (Unauthorized, "The password has expired: change it, or use an access key."),
    24: _THROTTLED,
    25: _THROTTLED,
    4091: (InvalidRequest, "The client token was used before for another request."),
    # already-exist, duplicate-id, duplicate-key, duplicate-name, tag-already-exist
    9000: _TAKEN,
    9009: _TAKEN,
    9011: _TAKEN,
    9015: _TAKEN,
    9060: _TAKEN,
    # device-conflict, device-in-use
    9003: _DEVICE,
    9004: _DEVICE,
    # volume-not-in-use
    9063: (Conflict, "The volume is attached to no VM: nothing is left to detach."),
    # too-many-concurrent-snapshots
    10008: (CapacityExhausted, "Too many snapshots are being taken at once: wait until some are through."),
}

_BY_THOUSAND: dict[int, _Meaning] = {
    1: (Conflict, "Other resources depend on it: remove them first."),
    2: _FAULT,
    4: _WRONG,
    5: _MISSING,
    6: _STATE,
    9: _CONFLICT,
    10: _QUOTA,
}

_BY_STATUS: dict[int, _Meaning] = {
    400: _WRONG,
    401: _BAD_KEY,
    403: _NOT_ALLOWED,
    404: (NotFound, "Check the endpoint: there is no such call there."),
    409: _CONFLICT,
    424: _BY_THOUSAND[1],
    429: _THROTTLED,
}


def api_error(reply: httpx.Response, action: str, resource: str) -> ApiError:
    """The error for a refusal. The first of its errors decides which; `why` has the type and details of all."""
    errors, request_id = _errors(reply)
    code = str(errors[0].get("Code") or "") if errors else ""
    kind, hint = _meaning(reply.status_code, code)
    told = [f"{error.get('Type') or 'Error'}: {error.get('Details') or '(no details)'}" for error in errors]
    return kind(
        f"the region refused {action}",
        resource=resource,
        why="; ".join(told) or reply.text[:500].strip() or reply.reason_phrase,
        hint=hint,
        status=reply.status_code,
        code=code,
        request_id=request_id,
    )


def _meaning(status: int, code: str) -> _Meaning:
    number = int(code) if code.isdecimal() else 0
    if number in _BY_CODE:
        return _BY_CODE[number]
    # These statuses say more than the range that a code is in: keys are refused with codes of several.
    if status in (401, 403, 429) or not number:
        return _BY_STATUS.get(status, _FAULT if status >= 500 else (InvalidRequest, ""))
    return _BY_THOUSAND.get(number // 1000) or _BY_STATUS.get(status, _FAULT if status >= 500 else _WRONG)


def _errors(reply: httpx.Response) -> tuple[list[dict[str, Any]], str]:
    try:
        body = json.loads(reply.content)
    except ValueError:
        return [], ""
    if not isinstance(body, dict):
        return [], ""
    errors, context = body.get("Errors"), body.get("ResponseContext")
    found = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    return found, str(context.get("RequestId") or "") if isinstance(context, dict) else ""
