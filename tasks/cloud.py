"""One build's view of a cloud: where its resources are, and how a run on it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from tasks.mark import Lineage, Mark
from tasks.run import Logger, Run, Witness
from tasks.teardown import Ground

RunT_co = TypeVar("RunT_co", bound=Run, covariant=True)


@dataclass(frozen=True)
class Cloud(Generic[RunT_co]):
    """A cloud, with one user's credentials."""

    ground: Callable[[Lineage | None], Ground]
    """Where a build, or (None) any build, leaves its resources."""
    ground_elsewhere: Mapping[str, Any]
    """The same for another process, as JSON (`tasks.grounds`). It holds credentials."""
    run: Callable[[Mark, datetime, Logger, Witness], RunT_co]
    """Makes the run of one attempt."""
