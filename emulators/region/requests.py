"""The log of what clients asked of a region. It never holds a credential or a body."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

from pydantic import BaseModel


class Request(BaseModel):
    """One request to the region's API."""

    n: int
    time: datetime
    operation: str
    method: str
    path: str
    status: int | None = None
    """Null while it is under way; 0 when the connection was dropped without a reply."""
    name: str | None = None
    description: str | None = None


class RequestLog:
    """The last requests, numbered from 1."""

    def __init__(self, keep: int = 200_000) -> None:
        self._requests: deque[Request] = deque(maxlen=keep)
        self._n = 0

    @property
    def last(self) -> int:
        """The number of the newest request, 0 when there was none."""
        return self._n

    def add(self, operation: str, method: str, path: str, name: str | None, description: str | None) -> Request:
        """Note a request as it comes in."""
        self._n += 1
        request = Request(
            n=self._n,
            time=datetime.now(UTC),
            operation=operation,
            method=method,
            path=path,
            name=name,
            description=description,
        )
        self._requests.append(request)
        return request

    def since(self, n: int) -> list[Request]:
        """The requests numbered above `n`, oldest first."""
        newest_first = []
        for request in reversed(self._requests):
            if request.n <= n:
                break
            newest_first.append(request)
        return newest_first[::-1]
