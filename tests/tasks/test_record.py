"""The digests of a record: what changes them, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from blocks.errors import RecordMismatch
from tasks import digest as digest_module
from tasks.provisioners import Provisioner
from tasks.record import Entry, Record, entry
from tests.tasks.provisioners.support import FakeGuest

ONE: TypeAdapter[Provisioner] = TypeAdapter(Provisioner)


async def digest(base: Path, **options: Any) -> str:
    return (await entry(1, "x", ONE.validate_python(options), base)).digest


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "a.sh").write_text("one")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("one")
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        {"name": "web"},
        {"timeout": 5},
        {"pause_before": 5},
        {"max_retries": 5},
        {"continue_on_error": True},
        {"only": ["x"]},
        {"except": ["x"]},
        {"override": {"x": {"timeout": 7}}},
        {"inline_shebang": "/bin/sh -e"},
    ],
)
async def test_what_says_when_and_how_often_is_not_what_is_done(base: Path, change: dict[str, Any]) -> None:
    plain = {"type": "shell", "inline": ["x"]}
    assert await digest(base, **plain) == await digest(base, **plain, **change)


@pytest.mark.parametrize(
    "other",
    [
        {"type": "shell", "inline": ["y"]},
        {"type": "shell-local", "inline": ["x"]},
        {"type": "shell", "inline": ["x"], "env": {"A": "b"}},
        {"type": "shell", "inline": ["x"], "env": {"A": {"env": "B"}}},
        {"type": "shell", "inline": ["x"], "valid_exit_codes": [0, 1]},
    ],
)
async def test_what_is_done_makes_another_digest(base: Path, other: dict[str, Any]) -> None:
    assert await digest(base, type="shell", inline=["x"]) != await digest(base, **other)


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ({"type": "shell", "script": "a.sh"}, "a.sh"),
        ({"type": "shell-local", "scripts": ["a.sh"]}, "a.sh"),
        ({"type": "file", "source": "a.sh", "destination": "/x"}, "a.sh"),
        ({"type": "file", "source": "d", "destination": "/x"}, "d/f"),
        ({"type": "file", "sources": ["a.sh", "d/"], "destination": "/x/"}, "d/f"),
    ],
)
async def test_contents_of_files_count_and_where_they_are_does_not(
    base: Path, tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any], file: str
) -> None:
    before = await digest(base, **options)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "d").mkdir()
    (elsewhere / "a.sh").write_text("one")
    (elsewhere / "d" / "f").write_text("one")
    assert await digest(elsewhere, **options) == before
    (base / file).write_text("two")
    assert await digest(base, **options) != before


async def test_a_big_file_counts_by_its_size(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_module, "_DIGESTED", 2)
    options = {"type": "shell", "script": "a.sh"}
    before = await digest(base, **options)
    (base / "a.sh").write_text("two")
    assert await digest(base, **options) == before
    (base / "a.sh").write_text("three")
    assert await digest(base, **options) != before


async def test_what_is_generated_or_downloaded_is_not_looked_at(base: Path) -> None:
    for more in ({"generated": True}, {"direction": "download"}):
        options: dict[str, Any] = {"type": "file", "source": "a.sh", "destination": "/x", **more}
        before = await digest(base, **options)
        (base / "a.sh").write_text(before)
        assert await digest(base, **options) == before


entries = st.builds(Entry, place=st.integers(1, 9), label=st.text(max_size=9), digest=st.text("0123abcd", max_size=4))


@given(st.lists(entries, max_size=5, unique_by=lambda one: one.place), entries)
def test_what_was_had_is_had_and_nothing_else(finished: list[Entry], asked: Entry) -> None:
    record = Record(FakeGuest(), "r", finished=finished)
    assert all(record.has(one) for one in finished)
    there = {one.place: one for one in finished}.get(asked.place)
    if there is not None and there.digest != asked.digest:
        with pytest.raises(RecordMismatch):
            record.has(asked)
    else:
        assert record.has(asked) == (there is not None)


@pytest.mark.parametrize("label", ["it's\n\"`id` $HOME\\", "ü" * 500, "%s {x}"])
async def test_any_label_is_read_as_it_was_written(tmp_path: Path, label: str) -> None:
    from tests.tasks.test_provision import Home

    guest = Home(tmp_path)
    record = await Record.read(guest, "r")
    one = await entry(1, label, ONE.validate_python({"type": "sleep", "duration": 1}), tmp_path)
    await record.begin(one)
    assert (await Record.read(guest, "r")).begun == one
    await record.finish(one)
    again = await Record.read(guest, "r")
    assert (again.finished, again.begun) == ([one], None)
    assert sorted(path.name for path in (tmp_path / ".image-bakery").iterdir()) == ["record"]
    assert (tmp_path / ".image-bakery" / "record").stat().st_mode & 0o777 == 0o600
