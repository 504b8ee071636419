"""The errors of Image Bakery.

Each says what happened, to which resource, why, and what to do next:

    BakeryError
    ├── DefinitionError          a build definition holds mistakes: all of them, before anything is created
    ├── SecretUnavailable        a reference leads to no secret
    ├── CredentialsError         no usable credentials for a cloud
    ├── CloudError
    │   ├── Unreachable          not connected: the request was never sent
    │   ├── ReplyLost            the request was sent and no reply came: it may have been carried out
    │   ├── NotOnVm              this process runs on no VM of that cloud
    │   └── ApiError             the cloud said no (status, code, message, request id)
    │       ├── InvalidRequest   a request that will never be right
    │       ├── Unauthorized     the credentials are wrong or have expired
    │       ├── Forbidden        the credentials are good but not for this
    │       ├── NotFound
    │       ├── AlreadyExists
    │       ├── Conflict         the resource is in a state that does not allow it
    │       ├── Throttled        too many requests
    │       ├── CapacityExhausted   no room: quota, addresses or hardware
    │       └── ServiceFault     the cloud is at fault: passes, as a rule
    ├── Ambiguous                a name leads to more than one resource
    ├── NotOurs                  a resource has the name that we need, and another owner
    ├── NothingKept              there is nothing kept of the build that is to be resumed
    ├── WaitExpired              a deadline came before what was waited for
    ├── EndedBadly               what was waited for ended in a state from which it never comes
    ├── CommunicatorError        the guest cannot be reached or talked to
    │   ├── CannotConnect        SSH never came up: what was tried, and what answered
    │   ├── HostKeyChanged       a host key is another than at first contact, or than the one that was given
    │   └── ConnectionLost       the connection broke in the middle of something
    ├── ProvisionerFailed        a provisioner ended with an exit code that is not valid
    ├── RecordMismatch           what a kept system has already had is not what the definition says now
    └── LeftBehind               teardown could not remove everything: what is left, and how to remove it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class BakeryError(Exception):
    """What happened (`what`), to which resource, why, and what to do next (`hint`)."""

    def __init__(self, what: str, *, resource: str = "", why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.resource = resource
        self.why = why
        self.hint = hint
        self.step = ""
        """The build step that failed with it, once that is known."""

    def __str__(self) -> str:
        text = f"{self.resource}: {self.what}" if self.resource else self.what
        if self.why:
            text += f":{self.why}" if self.why.startswith("\n") else f": {self.why}"
        if self.hint:
            text += f"\n  → {self.hint}"
        return text


@dataclass(frozen=True)
class Mistake:
    """One mistake in a build definition."""

    option: str
    """Path of the option, such as `provisioners[1].inline`."""
    rule: str
    """What is asked of it, as a sentence."""
    value: str = ""
    """What was given, as text; empty for secrets and for what is missing."""
    line: int | None = None
    """Line of the YAML file, counted from 1, where there is a file."""
    file: str = ""
    """The YAML file's name, where the mistakes of several are told."""
    of_host: bool = False
    """Whether only this host makes it one: another may have what this one lacks."""

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.file, f"line {self.line}" if self.line else "") if part)
        where = f" ({place})" if place else ""
        given = f" — given: {self.value}" if self.value else ""
        return f"{self.option}{where}: {self.rule}{given}"


class DefinitionError(BakeryError):
    """A build definition holds mistakes. All that can be known are in `mistakes`."""

    def __init__(self, mistakes: Sequence[Mistake], *, source: str = "") -> None:
        self.mistakes = tuple(mistakes)
        count = "a mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        super().__init__(
            f"the build definition has {count}",
            resource=source,
            why="".join(f"\n  - {mistake}" for mistake in self.mistakes),
            hint="Nothing was created. Mend them all and run it again.",
        )


class SecretUnavailable(BakeryError):
    """A reference in a definition leads to no secret."""


class CredentialsError(BakeryError):
    """There are no usable credentials for a cloud."""


class CloudError(BakeryError):
    """Something between us and a cloud's API."""

    passes = False
    """Whether the same request may well succeed a little later."""


class Unreachable(CloudError):
    """Not connected. The request was never sent."""

    passes = True


class ReplyLost(CloudError):
    """The request was sent and no reply came: it may have been carried out, or be carried out later."""

    passes = True


class NotOnVm(CloudError):
    """This process runs on no VM of that cloud, or cannot ask which VM it runs on."""


class ApiError(CloudError):
    """The cloud refused a request."""

    def __init__(
        self,
        what: str,
        *,
        resource: str = "",
        why: str = "",
        hint: str = "",
        status: int = 0,
        code: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(what, resource=resource, why=why, hint=hint)
        self.status = status
        self.code = code
        self.request_id = request_id

    def __str__(self) -> str:
        detail = ", ".join(
            part
            for part in (
                f"HTTP {self.status}" if self.status else "",
                self.code,
                f"request {self.request_id}" if self.request_id else "",
            )
            if part
        )
        head, arrow, hint = super().__str__().partition("\n  → ")
        return f"{head} ({detail}){arrow}{hint}" if detail else f"{head}{arrow}{hint}"


class InvalidRequest(ApiError):
    """A request that will never be right as it is."""


class Unauthorized(ApiError):
    """The credentials are wrong or have expired."""


class Forbidden(ApiError):
    """The credentials are good, but not for this."""


class NotFound(ApiError):
    """There is no such resource, or it may not be seen."""


class AlreadyExists(ApiError):
    """The name is taken."""


class Conflict(ApiError):
    """The resource is in a state that does not allow it."""


class Throttled(ApiError):
    """Too many requests; nothing was done."""

    passes = True


class CapacityExhausted(ApiError):
    """No room: quota, addresses or hardware."""


class ServiceFault(ApiError):
    """The cloud is at fault. What was asked for may have been done."""

    passes = True


class Ambiguous(BakeryError):
    """A name leads to more than one resource, and a guess could be the wrong one."""


class NotOurs(BakeryError):
    """A resource has the name that this build needs, and another owner. It is never adopted nor removed."""


class NothingKept(BakeryError):
    """There is nothing kept of the build that is to be resumed, or someone still works on it."""


class WaitExpired(BakeryError):
    """A deadline came before what was waited for."""


class EndedBadly(BakeryError):
    """What was waited for is in a state from which it never gets there."""


class CommunicatorError(BakeryError):
    """The guest cannot be reached or talked to."""


class CannotConnect(CommunicatorError):
    """SSH never came up."""


class HostKeyChanged(CommunicatorError):
    """The guest's or the bastion's host key is another than at first contact, or than the one that it was given."""


class ConnectionLost(CommunicatorError):
    """The connection broke in the middle of something."""


class ProvisionerFailed(BakeryError):
    """A provisioner did not do what it was told."""


class RecordMismatch(BakeryError):
    """A build cannot go on where an earlier attempt stopped: its definition says something else now."""


class LeftBehind(BakeryError):
    """Teardown could not remove everything."""
