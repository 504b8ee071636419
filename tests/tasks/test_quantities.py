from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from tasks.quantities import Bytes, Seconds

SECONDS: TypeAdapter[float] = TypeAdapter(Seconds)
BYTES: TypeAdapter[int] = TypeAdapter(Bytes)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h1m1s", 3661), ("1.5h", 5400), (" 2s ", 2), (7, 7), (0.5, 0.5)],
)
def test_durations(given: object, seconds: float) -> None:
    assert SECONDS.validate_python(given) == seconds


@pytest.mark.parametrize("given", ["", "s", "soon", "5", "-5s", "5 m", "1m1h", "5M", "1e3s", None, []])
def test_what_is_no_duration(given: object) -> None:
    with pytest.raises(ValidationError):
        SECONDS.validate_python(given)


@pytest.mark.parametrize(
    ("given", "size"),
    [("20GiB", 20 * 2**30), ("512 MiB", 2**29), ("1TiB", 2**40), ("4KiB", 4096), ("7", 7), ("7B", 7), (7, 7)],
)
def test_sizes(given: object, size: int) -> None:
    assert BYTES.validate_python(given) == size


@pytest.mark.parametrize("given", ["", "GiB", "20GB", "20G", "20Gi", "-1GiB", "1.5GiB", "20gib", 0.5, None, []])
def test_what_is_no_size(given: object) -> None:
    with pytest.raises(ValidationError):
        BYTES.validate_python(given)


@pytest.mark.parametrize(
    ("adapter", "given", "fits"),
    [
        (SECONDS, "1h30m", True),
        (SECONDS, 90, True),
        (SECONDS, "soon", False),
        (SECONDS, -1, False),
        (BYTES, "20GiB", True),
        (BYTES, 2**30, True),
        (BYTES, "20GB", False),
    ],
)
def test_forms_take_what_is_taken_here(adapter: TypeAdapter[Any], given: object, fits: bool) -> None:
    assert Draft202012Validator(adapter.json_schema()).is_valid(given) is fits
