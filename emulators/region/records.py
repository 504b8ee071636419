"""Durable records: one small JSON file each, indexed in memory by id and by name.

A change costs one file, whatever else exists. It is on the file system before the caller goes on, so that a region
killed at any moment finds at its next start what it had last answered.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel


class Record(BaseModel):
    """Something that exists in a region."""

    id: str
    name: str = ""

    @property
    def scope(self) -> str:
        """What the name is looked up in, such as a project's id."""
        return ""


R = TypeVar("R", bound=Record)


class _Index:
    """The sort keys of one scope, kept in order so that a page is a slice and never a sort."""

    def __init__(self) -> None:
        self.names: list[tuple[str, str]] = []
        self.ids: list[str] = []


class Collection(Generic[R]):
    """All records of one kind, in one directory."""

    def __init__(self, directory: Path, model: type[R]) -> None:
        self._directory = directory
        self._records: dict[str, R] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._scopes: dict[str, _Index] = {}
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left_over in directory.glob("*.tmp"):
            left_over.unlink()
        self._load(model)

    def _load(self, model: type[R]) -> None:
        for path in self._directory.glob("*.json"):
            record = model.model_validate_json(path.read_bytes())
            self._records[record.id] = record
            self._keys[record.id] = (record.scope, record.name)
            index = self._scopes.setdefault(record.scope, _Index())
            index.names.append((record.name, record.id))
            index.ids.append(record.id)
        for index in self._scopes.values():
            index.names.sort()
            index.ids.sort()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[R]:
        return iter(list(self._records.values()))

    def get(self, record_id: str) -> R | None:
        """The record of that id."""
        return self._records.get(record_id)

    def named(self, scope: str, name: str) -> R | None:
        """The record of that name in that scope."""
        index = self._scopes.get(scope)
        if index is None:
            return None
        at = bisect_left(index.names, (name, ""))
        if at < len(index.names) and index.names[at][0] == name:
            return self._records[index.names[at][1]]
        return None

    def within(self, scope: str) -> list[R]:
        """Every record of a scope, by name."""
        index = self._scopes.get(scope)
        return [self._records[record_id] for _, record_id in index.names] if index else []

    def save(self, record: R) -> None:
        """Write a new or changed record."""
        path = self._directory / f"{record.id}.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(record.model_dump_json())
        temporary.replace(path)
        self._records[record.id] = record
        key = (record.scope, record.name)
        if self._keys.get(record.id) != key:
            self._unindex(record.id)
            self._keys[record.id] = key
            index = self._scopes.setdefault(record.scope, _Index())
            insort(index.names, (record.name, record.id))
            insort(index.ids, record.id)

    def delete(self, record_id: str) -> None:
        """Forget a record. One that is already gone is no error."""
        (self._directory / f"{record_id}.json").unlink(missing_ok=True)
        self._unindex(record_id)
        self._records.pop(record_id, None)

    def _unindex(self, record_id: str) -> None:
        key = self._keys.pop(record_id, None)
        if key is None:
            return
        scope, name = key
        index = self._scopes[scope]
        del index.names[bisect_left(index.names, (name, record_id))]
        del index.ids[bisect_left(index.ids, record_id)]
        if not index.ids:
            del self._scopes[scope]

    def page_by_name(
        self, scope: str, after: tuple[str, str] | None, limit: int, *, descending: bool = False
    ) -> list[R]:
        """At most `limit` records of a scope in the order of their names, after the (name, id) of the last page."""
        index = self._scopes.get(scope)
        if index is None:
            return []
        if descending:
            end = bisect_left(index.names, after) if after else len(index.names)
            keys = index.names[max(0, end - limit) : end][::-1]
        else:
            start = bisect_right(index.names, after) if after else 0
            keys = index.names[start : start + limit]
        return [self._records[record_id] for _, record_id in keys]

    def page_by_id(self, scope: str, after: str | None, limit: int) -> list[R]:
        """At most `limit` records of a scope in the order of their ids, after the id of the last page."""
        index = self._scopes.get(scope)
        if index is None:
            return []
        start = bisect_right(index.ids, after) if after else 0
        return [self._records[record_id] for record_id in index.ids[start : start + limit]]


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, at once or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
