"""Kinds of values that options of the SSH communicator take."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from tasks.quantities import SECONDS, seconds
from tasks.ssh.plan import Tunnel

_DEFAULT_KEEP_ALIVE = 5.0


def at(position: int) -> JsonDict:
    """An option's place in the form."""
    return {"position": position}


def known_names(names: tuple[str, ...]) -> AfterValidator:
    """Refuse names that are none of these, and say which there are."""

    def check(given: list[str]) -> list[str]:
        if unknown := [name for name in given if name not in names]:
            raise PydanticCustomError(
                "unknown_names",
                "names what there is not: {unknown}; there are {names}",
                {"unknown": ", ".join(unknown), "names": ", ".join(names)},
            )
        return given

    return AfterValidator(check)


def _tunnel(given: str) -> str:
    try:
        Tunnel.parse(given)
    except ValueError as error:
        raise PydanticCustomError("tunnel", "{rule}, such as 8080:mirror.internal:80", {"rule": str(error)}) from None
    return given


TunnelText = Annotated[str, AfterValidator(_tunnel)]
"""`LISTENPORT:HOST:PORT`."""


def _keep_alive(given: Any) -> Any:
    if isinstance(given, str) and given.strip().startswith("-"):
        return -1.0
    return seconds(given)


def _keep_alive_of(given: float) -> float:
    return _DEFAULT_KEEP_ALIVE if given == 0 else max(given, -1.0)


KeepAlive = Annotated[
    float,
    BeforeValidator(_keep_alive),
    AfterValidator(_keep_alive_of),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "title": "Time, such as 5m", "pattern": r"^-?[0-9.dhms]+$"},
                {"type": "number", "title": SECONDS},
            ]
        }
    ),
]
"""A duration; 0 stands for the default, less than 0 for never."""
