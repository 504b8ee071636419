"""One request to one operation of the API document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.responses import Response

from emulators.oxide import errors, wire
from emulators.oxide.caller import Caller
from emulators.oxide.power import Power
from emulators.oxide.records import Identified, Instance, Project
from emulators.oxide.region import OxideRegion, Struck
from emulators.region.records import Collection

MAX_BODY = 1 << 20

R = TypeVar("R", bound=Identified)


@dataclass
class Call:
    """One request to one operation."""

    region: OxideRegion
    power: Power
    path: dict[str, str]
    query: dict[str, str]
    body: bytes
    host: str
    """The `Host` header."""
    struck: Struck
    who: Caller | None = None
    """None for an operation that needs no token."""

    @property
    def caller(self) -> Caller:
        """The user whose token came with the request."""
        assert self.who is not None
        return self.who

    @property
    def named_project(self) -> str | None:
        """`?project=`, as it came."""
        return self.query.get("project")

    @property
    def project(self) -> Project:
        """The project of a request that must name one."""
        return self.caller.project(self.named_project)

    def selected(self, collection: Collection[R], kind: str, parameter: str) -> R:
        """What a parameter of the path names, with `?project=` where that is a name."""
        return self.caller.select(collection, kind, self.path[parameter], self.named_project)

    @property
    def instance(self) -> Instance:
        """The instance in the path."""
        return self.selected(self.region.instances, "instance", "instance")

    @property
    def instance_of_query(self) -> Instance:
        """The instance in the query."""
        named = self.query.get("instance")
        if named is None:
            raise errors.bad_request("unable to parse query string: missing field `instance`")
        return self.caller.select(self.region.instances, "instance", named, self.named_project)

    def number(self, name: str) -> int | None:
        """A number of the query."""
        text = self.query.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal() and int(text) < 1 << 64):
            raise errors.bad_request(f"unable to parse query string: {name}: invalid digit found in string")
        return int(text)


Handler = Callable[[Call], Awaitable["wire.Json | Response | None"]]


@dataclass(frozen=True)
class Operation:
    """One operation of the API document."""

    id: str
    method: str
    path: str
    handler: Handler
    status: int
    needs_token: bool = True
    for_viewers: bool = False
    """Whether users who may change nothing else may do it."""
    max_body: int = MAX_BODY


class Operations(list[Operation]):
    """The operations of one group."""

    def add(
        self, operation_id: str, method: str, path: str, status: int = 200, **more: Any
    ) -> Callable[[Handler], Handler]:
        """Register the decorated handler."""

        def register(handler: Handler) -> Handler:
            self.append(Operation(operation_id, method, path, handler, status, **more))
            return handler

        return register
