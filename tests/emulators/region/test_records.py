from __future__ import annotations

from pathlib import Path

from emulators.region.records import Collection, Record


class Thing(Record):
    room: str = ""
    size: int = 0

    @property
    def scope(self) -> str:
        return self.room


def things(directory: Path) -> Collection[Thing]:
    return Collection(directory / "things", Thing)


def test_records_are_there_again_after_a_restart(tmp_path: Path) -> None:
    first = things(tmp_path)
    first.save(Thing(id="1", name="a", room="r", size=7))
    first.save(Thing(id="2", name="b", room="r"))
    first.delete("2")
    again = things(tmp_path)
    assert len(again) == 1
    assert again.get("1") == again.named("r", "a") == Thing(id="1", name="a", room="r", size=7)
    assert again.get("2") is None


def test_a_write_cut_short_is_forgotten(tmp_path: Path) -> None:
    things(tmp_path).save(Thing(id="1", name="a"))
    (tmp_path / "things" / "2.tmp").write_text('{"id": "2", "na')
    again = things(tmp_path)
    assert [thing.id for thing in again] == ["1"]
    assert [path.name for path in (tmp_path / "things").iterdir()] == ["1.json"]


def test_a_record_moves_with_its_scope_and_name(tmp_path: Path) -> None:
    collection = things(tmp_path)
    thing = Thing(id="1", name="a", room="r")
    collection.save(thing)
    thing.room, thing.name = "s", "b"
    collection.save(thing)
    assert collection.named("r", "a") is None
    assert collection.within("r") == []
    assert collection.named("s", "b") is thing


def test_pages_of_many_records_join_up(tmp_path: Path) -> None:
    collection = things(tmp_path)
    for number in range(50):
        collection.save(Thing(id=f"id-{(number * 37) % 50:02}", name=f"name-{number:02}", room="r"))
    collection.save(Thing(id="other", name="name-00", room="s"))

    up, after = [], None
    while page := collection.page_by_name("r", after, 7):
        up += [thing.name for thing in page]
        after = (page[-1].name, page[-1].id)
    assert up == [f"name-{number:02}" for number in range(50)]

    down, after = [], None
    while page := collection.page_by_name("r", after, 7, descending=True):
        down += [thing.name for thing in page]
        after = (page[-1].name, page[-1].id)
    assert down == up[::-1]

    ids: list[str] = []
    while page := collection.page_by_id("r", ids[-1] if ids else None, 7):
        ids += [thing.id for thing in page]
    assert ids == [f"id-{number:02}" for number in range(50)]
