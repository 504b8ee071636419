"""A definition's digest: what changes the image changes it, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.oxide_image.definition import OxideImageDefinition

BUILD: dict[str, Any] = {
    "boot_disk_image_id": "tiny",
    "project": "p",
    "ssh_username": "root",
    "provisioners": [
        {"type": "shell", "script": "a.sh", "only": ["image"]},
        {"type": "file", "source": "d/", "destination": "/d"},
    ],
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    for name in ("a.sh", "d/f", "user-data"):
        (tmp_path / name).write_text("one")
    return tmp_path


async def digest(base: Path, source: str | None = None, **changes: Any) -> str:
    given = {**BUILD, "definition_file": str(base / "build.yaml"), **changes}
    return await OxideImageDefinition.model_validate(given).digest(source)


@pytest.mark.parametrize(
    "change",
    [
        {"boot_disk_image_id": "other"},
        {"cpus": 4},
        {"provisioners": BUILD["provisioners"][:1]},
        {"artifact_name": "web-{{timestamp}}"},
    ],
)
async def test_options_count(base: Path, change: dict[str, Any]) -> None:
    assert await digest(base, **change) != await digest(base)


@pytest.mark.parametrize(
    "change", [{"on_error": "keep"}, {"build_timeout": "1h"}, {"manifest": "m.json"}, {"cpus": None}, {"force": False}]
)
async def test_what_does_not_change_the_image_does_not_count(base: Path, change: dict[str, Any]) -> None:
    change = {name: value for name, value in change.items() if value is not None}
    assert await digest(base, **change) == await digest(base)


@pytest.mark.parametrize("file", ["a.sh", "d/f", "user-data"])
async def test_files_count(base: Path, file: str) -> None:
    named: dict[str, Any] = {"user_data_file": "user-data"}
    before = await digest(base, **named)
    (base / file).write_text("two")
    assert await digest(base, **named) != before


async def test_a_file_of_a_provisioner_that_this_build_does_without_does_not_count(base: Path) -> None:
    other: dict[str, Any] = {"provisioners": [{"type": "shell", "script": "a.sh", "except": ["image"]}]}
    before = await digest(base, **other)
    (base / "a.sh").write_text("two")
    assert await digest(base, **other) == before


async def test_the_source_is_a_definition_and_not_its_image_of_today(base: Path) -> None:
    first, second = ({"boot_disk_image_id": name} for name in ("today", "tomorrow"))
    assert await digest(base, "parent", **first) == await digest(base, "parent", **second)
    assert await digest(base, "parent", **first) != await digest(base, "another", **first)
