"""Resources of one kind, oldest first, by who may see them: a page is read from where the last one ended."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from datetime import datetime
from heapq import merge
from pathlib import Path
from typing import TypeVar

from emulators.outscale.records import EVERYONE, Resource
from emulators.region.records import Collection

R = TypeVar("R", bound=Resource)
Age = tuple[datetime, str]
"""When a resource was made, and its id: the order in which clients see resources."""


def age(record: Resource) -> Age:
    """Where a resource is in the order."""
    return record.creation_date, record.id


class Shelf(Collection[R]):
    """A collection that knows the order and the viewers of what is in it, so that no list has to be made whole."""

    def __init__(self, directory: Path, model: type[R]) -> None:
        self._seen_by: dict[str, list[Age]] = {}
        self._viewers: dict[str, frozenset[str]] = {}
        super().__init__(directory, model)

    def _load(self, model: type[R]) -> None:
        super()._load(model)
        for record in self._records.values():
            viewers = self._viewers[record.id] = record.viewers
            for viewer in viewers:
                self._seen_by.setdefault(viewer, []).append(age(record))
        for ages in self._seen_by.values():
            ages.sort()

    def save(self, record: R) -> None:
        """Write a new or changed record."""
        super().save(record)
        former, viewers = self._viewers.get(record.id, frozenset()), record.viewers
        for viewer in former - viewers:
            self._hide(viewer, record)
        for viewer in viewers - former:
            insort(self._seen_by.setdefault(viewer, []), age(record))
        self._viewers[record.id] = viewers

    def delete(self, record_id: str) -> None:
        """Forget a record. One that is already gone is no error."""
        record = self.get(record_id)
        super().delete(record_id)
        if record is not None:
            for viewer in self._viewers.pop(record_id):
                self._hide(viewer, record)

    def _hide(self, viewer: str, record: R) -> None:
        ages = self._seen_by[viewer]
        del ages[bisect_left(ages, age(record))]

    def visible(self, account_id: str, after: Age | None = None) -> Iterator[R]:
        """What an account owns or may use, oldest first, from behind a place in that order."""
        last = None
        for _, record_id in merge(self._since(account_id, after), self._since(EVERYONE, after)):
            if record_id != last:
                last = record_id
                yield self._records[record_id]

    def _since(self, viewer: str, after: Age | None) -> Iterator[Age]:
        ages = self._seen_by.get(viewer, [])
        start = bisect_right(ages, after) if after is not None else 0
        return (ages[at] for at in range(start, len(ages)))
