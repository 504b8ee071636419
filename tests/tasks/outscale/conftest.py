from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Tune
from tests.tasks.outscale.box import Box, opened


@pytest.fixture
async def box(tmp_path: Path, tune: Tune) -> AsyncIterator[Box]:
    async with opened(tmp_path / "region", tune) as box:
        yield box
