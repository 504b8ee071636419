from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.emulators.oxide.api_document import ApiDocument
from tests.emulators.oxide.kitchen import Client, Kitchen


@pytest.fixture(scope="session")
def api_document() -> ApiDocument:
    return ApiDocument()


@pytest.fixture
def kitchen(tmp_path: Path, api_document: ApiDocument) -> Kitchen:
    return Kitchen(tmp_path, api_document)


@pytest.fixture
async def client(kitchen: Kitchen) -> AsyncIterator[Client]:
    async with kitchen.open() as opened:
        yield opened
