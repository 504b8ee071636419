"""What a test needs of the machine. In CI a test that cannot run is a failure, elsewhere it says why it did not."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import NoReturn

import pytest


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def root() -> None:
    if os.geteuid() != 0:
        _missing("linking volumes makes block devices, which takes root")


def sdk() -> None:
    if importlib.util.find_spec("osc_sdk_python") is None:
        _missing("osc-sdk-python is not installed: pip install osc-sdk-python")


def curl() -> str:
    found = shutil.which("curl")
    if found is None:
        _missing("curl is not installed: apt-get install curl")
    return found


def ip() -> str:
    found = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        _missing("ip is not installed: apt-get install iproute2")
    return found
