"""The tiny guest's tree in a jail: busybox and little else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tasks.chroot.jail import Jail
from tests.tasks.chroot.cellar import need_root
from tests.tasks.chroot.conftest import disk, master, volume  # noqa: F401 (fixtures)


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


@pytest.fixture
async def jail(volume: Any, tmp_path: Path) -> AsyncIterator[Jail]:  # noqa: F811
    async with Jail(tmp_path / "mounted", logging.getLogger("tests")) as jail:
        await jail.mount_device(volume.partition)
        yield jail
