"""Real systems for provisioners: a guest over SSH and a jail around a chroot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tasks.communicator import read
from tests.tasks.chroot.cellar import need_root
from tests.tasks.chroot.conftest import communicator, disk, jail, master, volume
from tests.tasks.ssh.conftest import guest, looker, oven

__all__ = ["communicator", "disk", "guest", "jail", "looker", "master", "oven", "volume"]


@dataclass
class System:
    """A system that is being made, and how to look at it."""

    kind: str
    communicator: Any
    looker: Any = None
    """Another way in, to look while something runs: over one connection, Dropbear runs no commands side by side."""

    async def says(self, command: str) -> str:
        """What a command says."""
        return (await read(self.looker or self.communicator, command))[1]


@pytest.fixture(params=["ssh", "jail"])
def system(request: pytest.FixtureRequest) -> System:
    """Both kinds of system, one after the other."""
    need_root()
    if request.param == "ssh":
        return System("ssh", request.getfixturevalue("guest"), request.getfixturevalue("looker"))
    return System("jail", request.getfixturevalue("communicator"))
