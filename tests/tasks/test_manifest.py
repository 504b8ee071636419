"""The manifest: Packer's format, appended to as a whole, by several at once."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from blocks.errors import BakeryError
from tasks.manifest import append_build, build_entry, mistakes_of_manifest


def entry(run: UUID | None = None, artifact: str = "eu-west-2:ami-1", **custom: str) -> dict[str, Any]:
    return build_entry(
        name="web", builder="outscale-chroot", finished=1700000000.9, artifact_id=artifact, run=run or uuid4(),
        custom_data=custom,
    )  # fmt: skip


async def test_the_first_build_makes_the_file_as_packer_does(tmp_path: Path) -> None:
    run = uuid4()
    await append_build(tmp_path / "m.json", entry(run))
    assert json.loads((tmp_path / "m.json").read_text()) == {
        "builds": [
            {
                "name": "web",
                "builder_type": "outscale-chroot",
                "build_time": 1700000000,
                "files": None,
                "artifact_id": "eu-west-2:ami-1",
                "packer_run_uuid": str(run),
                "custom_data": None,
            }
        ],
        "last_run_uuid": str(run),
    }
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


async def test_what_packer_wrote_stays_and_the_last_run_is_ours(tmp_path: Path) -> None:
    path, run = tmp_path / "m.json", uuid4()
    packers = {"name": "old", "packer_run_uuid": "x", "artifact_id": "y", "files": [{"name": "f", "size": 1}]}
    path.write_text(json.dumps({"builds": [packers], "last_run_uuid": "x"}))
    path.chmod(0o640)
    await append_build(path, entry(run, stage="prod"))
    manifest = json.loads(path.read_text())
    assert manifest["builds"][0] == packers
    assert manifest["builds"][1]["custom_data"] == {"stage": "prod"}
    assert manifest["last_run_uuid"] == str(run)
    assert path.stat().st_mode & 0o777 == 0o640


async def test_a_build_that_is_told_twice_stands_there_once(tmp_path: Path) -> None:
    path, run = tmp_path / "m.json", uuid4()
    for _ in range(2):
        await append_build(path, entry(run))
    await append_build(path, entry(run, "eu-west-2:ami-2"))
    assert len(json.loads(path.read_text())["builds"]) == 2


def _append(path: Path) -> None:
    for _ in range(5):
        asyncio.run(append_build(path, entry()))


def test_no_build_of_several_processes_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append, args=(path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(json.loads(path.read_text())["builds"]) == 15


@pytest.mark.parametrize("text", ["", "{", "[]", '{"other": 1}', '{"builds": 3}'])
async def test_what_is_no_manifest_is_left_alone_and_the_error_names_the_image(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(BakeryError, match="ami-1"):
        await append_build(path, entry())
    assert path.read_text() == text


def test_a_file_that_cannot_be_is_a_mistake_beforehand(tmp_path: Path) -> None:
    assert mistakes_of_manifest(tmp_path / "m.json", "m.json") == []
    assert mistakes_of_manifest(tmp_path, ".")
    assert mistakes_of_manifest(tmp_path / "no" / "m.json", "no/m.json")
