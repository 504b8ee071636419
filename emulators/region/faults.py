"""Faults: what a region does wrong on purpose, as told by its control endpoint."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

COMMON_KINDS = frozenset({"latency", "status", "drop_before", "drop_after", "hang"})
"""Kinds that work on any operation of any region."""


class Fault(BaseModel):
    """One fault and how often it strikes.

    What is not named here (`seconds`, `status`, `message`, …) belongs to the kind and is kept as it came.
    """

    model_config = ConfigDict(extra="allow")

    id: int = 0
    operation: str = "*"
    """An operation's id, a glob of them, or `*`."""
    kind: str
    name: str | None = None
    """Strike only requests whose body has a `name` that matches this glob."""
    count: int | None = Field(default=1, ge=1)
    """How many times it strikes; null: always."""
    probability: float = Field(default=1.0, ge=0, le=1)
    seed: int | None = None
    skip: int = Field(default=0, ge=0)
    """How many matching requests pass first."""
    seen: int = 0
    """Matching requests so far."""
    fired: int = 0
    """How often it has struck."""

    _random: random.Random = PrivateAttr(default_factory=random.Random)

    def model_post_init(self, _context: Any, /) -> None:
        """Make a seeded fault strike the same requests each time."""
        self._random = random.Random(self.seed)  # noqa: S311 - chance, not secrecy

    def number(self, field: str, default: float) -> float:
        """A number that belongs to the kind."""
        value = (self.model_extra or {}).get(field)
        return default if value is None else float(value)

    def text(self, field: str, default: str | None = None) -> str | None:
        """A text that belongs to the kind."""
        value = (self.model_extra or {}).get(field)
        return default if value is None else str(value)

    def mapping(self, field: str) -> dict[str, object]:
        """An object that belongs to the kind."""
        value = (self.model_extra or {}).get(field)
        return dict(value) if isinstance(value, dict) else {}

    def strikes(self, operation: str, name: str | None) -> bool:
        """Count one request, and say whether it is struck."""
        if not fnmatchcase(operation, self.operation):
            return False
        if self.name is not None and not fnmatchcase(name or "", self.name):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.count is not None and self.fired >= self.count):
            return False
        if self.probability < 1 and self._random.random() >= self.probability:
            return False
        self.fired += 1
        return True


@dataclass(frozen=True)
class Struck:
    """The faults that strike one request."""

    faults: list[Fault] = field(default_factory=list)

    def by(self, kind: str) -> Fault | None:
        """The fault of that kind, if there is one."""
        return next((fault for fault in self.faults if fault.kind == kind), None)


class Faults:
    """The faults that a region has been told."""

    def __init__(self, kinds: frozenset[str] = frozenset()) -> None:
        self.kinds = COMMON_KINDS | kinds
        self._faults: dict[int, Fault] = {}
        self._numbers = itertools.count(1)

    def __iter__(self) -> itertools.chain[Fault]:
        return itertools.chain(list(self._faults.values()))

    def add(self, fault: Fault) -> Fault:
        """Take a fault on.

        Raises:
            ValueError: this region has no such kind.
        """
        if fault.kind not in self.kinds:
            raise ValueError(f"unknown kind {fault.kind!r}: this region has {', '.join(sorted(self.kinds))}")
        fault = fault.model_copy(update={"id": next(self._numbers), "seen": 0, "fired": 0})
        self._faults[fault.id] = fault
        return fault

    def remove(self, number: int) -> bool:
        """Forget one fault; false if there is none of that number."""
        return self._faults.pop(number, None) is not None

    def clear(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def draw(self, operation: str, name: str | None = None) -> list[Fault]:
        """Count a request against every fault, and return those that strike it."""
        return [fault for fault in self if fault.strikes(operation, name)]
