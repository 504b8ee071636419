"""Signing requests with an access key (OSC4-HMAC-SHA256, the shape of AWS's Signature Version 4).

Source: "Signature of API Requests" in OUTSCALE's user guide.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Generator
from datetime import UTC, datetime

import httpx
from pydantic import SecretStr

_SIGNED = ("content-type", "host", "x-osc-date")


def _now() -> datetime:
    return datetime.now(UTC)


class Osc4Auth(httpx.Auth):
    """Signs each request as it is sent, so that one that is tried again has a new date.

    Args:
        access_key: Id of the key.
        secret_key: Its secret.
        region: Region in the signature's scope, such as `eu-west-2`.
        service: Service in the signature's scope.
        now: The time of signing. The cloud refuses a date that is minutes from its own.
    """

    requires_request_body = True

    def __init__(
        self,
        access_key: str,
        secret_key: SecretStr,
        region: str,
        *,
        service: str = "api",
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region
        self._service = service
        self._now = now

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add `X-Osc-Date` and `Authorization`."""
        moment = self._now().astimezone(UTC)
        date = moment.strftime("%Y%m%dT%H%M%SZ")
        request.headers["X-Osc-Date"] = date
        names = [name for name in _SIGNED if name in request.headers]
        scope = f"{moment:%Y%m%d}/{self._region}/{self._service}/osc4_request"
        text = "\n".join(("OSC4-HMAC-SHA256", date, scope, _sha256(_canonical(request, names))))
        signature = hmac.new(self._key(scope), text.encode(), hashlib.sha256).hexdigest()
        request.headers["Authorization"] = (
            f"OSC4-HMAC-SHA256 Credential={self._access_key}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        yield request

    def _key(self, scope: str) -> bytes:
        key = f"OSC4{self._secret_key.get_secret_value()}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key


def _canonical(request: httpx.Request, names: list[str]) -> bytes:
    path, _, query = request.url.raw_path.decode("ascii").partition("?")
    headers = "".join(f"{name}:{request.headers[name].strip()}\n" for name in names)
    parts = (request.method, path, query, headers, ";".join(names), _sha256(request.content))
    return "\n".join(parts).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
