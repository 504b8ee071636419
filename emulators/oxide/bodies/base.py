"""What all request bodies have in common: names, ids, addresses, and how they are read.

The models are strict, as the server's parser is: a number in quotes is refused, an unknown field is ignored.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from emulators.oxide.errors import bad_request

_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*")


_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def is_uuid(text: str) -> bool:
    """Whether a NameOrId is an id."""
    return _UUID.fullmatch(text) is not None


def check_name(text: str) -> str:
    """Return a name that the server takes. It refuses the upper case that the document's pattern allows.

    Raises:
        ValueError: it does not, with the server's words.
    """
    if not text:
        raise ValueError("name requires at least one character")
    if len(text) > 63:
        raise ValueError("name may contain at most 63 characters")
    if is_uuid(text):
        raise ValueError("name cannot be a UUID to avoid ambiguity with IDs")
    if not "a" <= text[0] <= "z":
        raise ValueError("name must begin with an ASCII lowercase character")
    if _NAME.fullmatch(text) is None:
        raise ValueError(
            'name contains invalid character (allowed characters are lowercase ASCII, digits, and "-"; '
            'a name cannot end with "-")'
        )
    return text


def _check_name_or_id(text: str) -> str:
    return text if is_uuid(text) else check_name(text)


def _check_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError("UUID parsing failed") from None


def _check_hostname(text: str) -> str:
    if len(text) > 253 or _HOSTNAME.fullmatch(text) is None:
        raise ValueError("hostname must comply with RFC 1035")
    return text


def _check_ipv4(text: str) -> str:
    return str(IPv4Address(text))


def _check_ipv4_network(text: str) -> str:
    return str(IPv4Network(text, strict=False))


def _check_ipv6(text: str) -> str:
    return str(IPv6Address(text))


def _check_ipv6_network(text: str) -> str:
    return str(IPv6Network(text, strict=False))


def _check_ip(text: str) -> str:
    return str(ip_address(text))


def _check_network(text: str) -> str:
    return _check_ipv6_network(text) if ":" in text else _check_ipv4_network(text)


Name = Annotated[str, AfterValidator(check_name)]


NameOrId = Annotated[str, AfterValidator(_check_name_or_id)]


Id = Annotated[str, AfterValidator(_check_id)]


Hostname = Annotated[str, AfterValidator(_check_hostname)]


Ipv4 = Annotated[str, AfterValidator(_check_ipv4)]


Ipv4Net = Annotated[str, AfterValidator(_check_ipv4_network)]


Ipv6 = Annotated[str, AfterValidator(_check_ipv6)]


Ipv6Net = Annotated[str, AfterValidator(_check_ipv6_network)]


Ip = Annotated[str, AfterValidator(_check_ip)]


IpNet = Annotated[str, AfterValidator(_check_network)]


Description = Annotated[str, Field(max_length=512)]


ByteCount = Annotated[int, Field(ge=0, lt=1 << 63)]


BlockSize = Literal[512, 2048, 4096]


class Body(BaseModel):
    """A request body."""

    model_config = ConfigDict(strict=True)


class IdentityCreate(Body):
    """What every create takes."""

    name: Name
    description: Description


class IdentityUpdate(Body):
    """What every update takes: nothing said is nothing changed."""

    name: Name | None = None
    description: Description | None = None


class ProjectCreate(IdentityCreate):
    """`ProjectCreate`."""


class SshKeyCreate(IdentityCreate):
    """`SshKeyCreate`."""

    public_key: str


class DeviceAuthVerify(Body):
    """`DeviceAuthVerify`."""

    user_code: str


def path_id(text: str) -> str:
    """An id in a path.

    Raises:
        ApiError: 400, it is none.
    """
    if not is_uuid(text):
        raise bad_request("bad parameter in URL path: UUID parsing failed")
    return text.lower()


B = TypeVar("B", bound=Body)


def parse(model: type[B], body: bytes) -> B:
    """Read a request body.

    Raises:
        ApiError: 400 without an error code, as for everything that the server's parser refuses.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            text = f"missing field `{first['loc'][-1]}`"
        raise bad_request(f"unable to parse JSON body: {where + ': ' if where else ''}{text}") from None
