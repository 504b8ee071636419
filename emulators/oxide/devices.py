"""OAuth 2.0 device authorization (RFC 8628): how a command line gets its token.

What is pending is forgotten when the region ends.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response

from emulators.oxide import errors, silos
from emulators.oxide.bodies.base import is_uuid
from emulators.oxide.calls import Call
from emulators.oxide.records import Grant, User, now
from emulators.oxide.region import OxideRegion

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_LIFETIME = timedelta(minutes=15)
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""Without vowels, as RFC 8628, 6.1, recommends."""


def request(call: Call) -> Response:
    """Begin: hand out a device code, and a user code for whoever is to confirm."""
    form = _form(call.body)
    client_id, ttl = form.get("client_id", ""), form.get("ttl_seconds")
    if not is_uuid(client_id) or (
        ttl is not None and not (ttl.isascii() and ttl.isdecimal() and 0 < int(ttl) < 1 << 32)
    ):
        raise errors.bad_request("unable to parse URL-encoded body: client_id is a UUID, ttl_seconds a number above 0")
    device_code = secrets.token_hex(20)
    user_code = "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(2))
    call.region.grants[device_code] = Grant(
        client_id=client_id.lower(),
        user_code=user_code,
        ttl_seconds=None if ttl is None else int(ttl),
        until=now() + _LIFETIME,
    )
    return JSONResponse(
        {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": f"http://{call.host}/device/verify",
            "expires_in": int(_LIFETIME.total_seconds()),
        }
    )


def token(call: Call) -> Response:
    """Poll: the token once it is granted, until then an error of RFC 8628, 3.5."""
    form = _form(call.body)
    if form.get("grant_type") != _GRANT:
        return _refused("unsupported_grant_type")
    grant = call.region.grants.get(form.get("device_code", ""))
    if grant is None or grant.client_id != form.get("client_id", "").lower():
        return _refused("invalid_grant")
    if grant.denied or grant.until <= now():
        del call.region.grants[form["device_code"]]
        return _refused("access_denied" if grant.denied else "expired_token")
    if grant.user is None:
        return _refused("authorization_pending")
    del call.region.grants[form["device_code"]]
    expires = None if grant.ttl_seconds is None else now() + timedelta(seconds=grant.ttl_seconds)
    issued, secret = silos.issue(call.region, grant.user, expires=expires)
    return JSONResponse(
        {
            "access_token": secret,
            "token_type": "bearer",
            "token_id": issued.id,
            "time_expires": expires.isoformat() if expires else None,
        }
    )


def confirm(region: OxideRegion, user_code: str, user: User | None) -> None:
    """Grant a request for that user, or refuse it.

    Raises:
        ApiError: 404, no such request waits.
    """
    for grant in region.grants.values():
        if grant.user_code == user_code and grant.user is None and not grant.denied and grant.until > now():
            grant.user, grant.denied = user, user is None
            return
    raise errors.no_such(f'not found: device-auth-request with user_code "{user_code}"')


def _refused(error: str) -> Response:
    return JSONResponse({"error": error}, 400)


def _form(body: bytes) -> dict[str, str]:
    try:
        return {key: values[-1] for key, values in parse_qs(body.decode(), max_num_fields=20).items()}
    except ValueError:
        raise errors.bad_request("unable to parse URL-encoded body") from None
