from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from emulators.outscale import devices, service
from emulators.outscale.app import api_app
from tests.emulators.outscale import needs
from tests.emulators.outscale.api_document import ApiDocument, document_path
from tests.emulators.outscale.kitchen import Client, Kitchen
from tests.emulators.outscale.replies import Checked

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="session")
def api_document() -> ApiDocument | None:
    """None where the document is not at hand: the replies are then checked by the tests' own words alone."""
    path = document_path()
    return ApiDocument(path) if path else None


@pytest.fixture(autouse=True)
def every_reply(monkeypatch: pytest.MonkeyPatch, api_document: ApiDocument | None) -> Iterator[None]:
    """Holds every reply of every region that serves in this process against the document."""
    wrong: list[str] = []
    if api_document is not None:
        document = api_document
        monkeypatch.setattr(service, "api_app", lambda region: Checked(api_app(region), document, wrong))
    yield
    assert wrong == []


@pytest.fixture
def kitchen(tmp_path: Path, api_document: ApiDocument | None) -> Kitchen:
    needs.sdk()
    return Kitchen(tmp_path, api_document)


@pytest.fixture
async def client(kitchen: Kitchen) -> AsyncIterator[Client]:
    async with kitchen.open() as opened:
        yield opened


@pytest.fixture(scope="session")
def _names(worker_id: str) -> Iterator[str]:
    # Each worker has names of its own, far from those that people and builds use.
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 15
    first = _LETTERS[-1 - number % 16]
    return (f"/dev/xvd{first}{second}" for second in itertools.cycle(_LETTERS))


@pytest.fixture
def device_name(_names: Iterator[str]) -> Callable[[], str]:
    def free() -> str:
        return next(name for name in itertools.islice(_names, 26) if not os.path.lexists(name))

    return free


@pytest.fixture
def no_device_left(tmp_path: Path) -> Iterator[None]:
    needs.root()
    yield
    deadline = time.monotonic() + 10
    # The kernel lets a device go a moment after its last user.
    while (left := _left(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []


def _left(directory: Path) -> list[str]:
    loops = [f"/dev/loop{loop} {path}" for loop, path in devices.loops() if path.is_relative_to(directory)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return loops + [line for line in mounts if str(directory) in line]
