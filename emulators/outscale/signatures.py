"""Checking who signed a request: OSC4-HMAC-SHA256, and AWS4-HMAC-SHA256 as some clients sign.

Both are the same construction with other words: `OSC4`, `osc4_request` and `x-osc-date` for `AWS4`, `aws4_request` and
`x-amz-date`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote

_AUTHORIZATION = re.compile(
    r"(?P<family>OSC4|AWS4)-HMAC-SHA256\s+Credential=(?P<key>[^/\s,]+)/(?P<date>\d{8})/(?P<region>[^/\s,]+)/"
    r"(?P<service>[^/\s,]+)/(?P<end>osc4_request|aws4_request)\s*,\s*"
    r"SignedHeaders=(?P<headers>[^\s,]+)\s*,\s*Signature=(?P<signature>[0-9a-f]{64})\s*"
)


class NotSigned(Exception):
    """The Authorization header is none of these signatures."""


@dataclass(frozen=True)
class Message:
    """What a signature is over."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


@dataclass(frozen=True)
class Signature:
    """What an Authorization header claims."""

    family: str
    access_key: str
    date: str
    region: str
    service: str
    end: str
    signed_headers: tuple[str, ...]
    value: str

    @classmethod
    def parse(cls, header: str) -> Signature:
        """Read an Authorization header.

        Raises:
            NotSigned: it is something else.
        """
        found = _AUTHORIZATION.fullmatch(header)
        if found is None or found["end"] != f"{found['family'].lower()}_request":
            raise NotSigned
        headers = tuple(found["headers"].lower().split(";"))
        return cls(
            found["family"],
            found["key"],
            found["date"],
            found["region"],
            found["service"],
            found["end"],
            headers,
            found["signature"],
        )

    @property
    def date_header(self) -> str:
        """The header that holds the time of signing."""
        return "x-osc-date" if self.family == "OSC4" else "x-amz-date"

    def time(self, message: Message) -> datetime | None:
        """When it says it was signed; None if it does not, or contradicts itself."""
        text = message.headers.get(self.date_header, "")
        try:
            signed_at = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            return None
        return signed_at if text.startswith(self.date) else None

    def is_by(self, secret_key: str, message: Message) -> bool:
        """Whether the holder of that secret key signed exactly this message.

        A client may have signed its host with or without the port, and a path with `//` as it is or tidied.
        """
        if not {"host", self.date_header} <= set(self.signed_headers):
            return False
        if any(name not in message.headers for name in self.signed_headers):
            return False
        key, moment = self._key(secret_key), message.headers[self.date_header]
        return any(
            hmac.compare_digest(self._sign(key, moment, canonical), self.value)
            for canonical in self._canonical(message)
        )

    def _key(self, secret_key: str) -> bytes:
        key = f"{self.family}{secret_key}".encode()
        for part in (self.date, self.region, self.service, self.end):
            key = hmac.digest(key, part.encode(), "sha256")
        return key

    def _sign(self, key: bytes, moment: str, canonical: str) -> str:
        scope = f"{self.date}/{self.region}/{self.service}/{self.end}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        return hmac.new(key, f"{self.family}-HMAC-SHA256\n{moment}\n{scope}\n{digest}".encode(), "sha256").hexdigest()

    def _canonical(self, message: Message) -> Iterator[str]:
        query = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
            for name, value in sorted(parse_qsl(message.query, keep_blank_values=True))
        )
        host = message.headers["host"]
        for path in dict.fromkeys([message.path, re.sub("/{2,}", "/", message.path)]):
            for name in dict.fromkeys([host, host.rpartition(":")[0] or host]):
                values = {**message.headers, "host": name}
                headers = "".join(f"{h}:{' '.join(values[h].split())}\n" for h in sorted(self.signed_headers))
                signed = ";".join(sorted(self.signed_headers))
                digest = hashlib.sha256(message.body).hexdigest()
                yield "\n".join([message.method, path, query, headers, signed, digest])
