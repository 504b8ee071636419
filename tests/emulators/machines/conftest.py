from __future__ import annotations

import os
from pathlib import Path

import pytest

from emulators.guests import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE
from emulators.guests.build import build_guest


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The tiny guest's directory; builders of several test processes wait for each other."""
    here = Path(__file__).parents[3]
    output = Path(os.environ.get(DIRECTORY_VARIABLE) or here / DEFAULT_DIRECTORY)
    directory = output / "tiny"
    return directory if (directory / "image.json").exists() else build_guest("tiny", output)
