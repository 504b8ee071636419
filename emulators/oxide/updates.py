"""Changing the name and the description of something, as every update of the API does."""

from __future__ import annotations

from typing import TypeVar

from emulators.oxide import errors
from emulators.oxide.bodies.base import IdentityUpdate
from emulators.oxide.records import Identified, now
from emulators.region.records import Collection

R = TypeVar("R", bound=Identified)


def update(collection: Collection[R], kind: str, record: R, body: IdentityUpdate) -> None:
    """Change what an update says, and note when.

    Raises:
        ApiError: the name is taken in its scope.
    """
    if body.name is not None:
        other = collection.named(record.scope, body.name)
        if other is not None and other.id != record.id:
            raise errors.already_exists(kind, body.name)
        record.name = body.name
    if body.description is not None:
        record.description = body.description
    record.time_modified = now()
    collection.save(record)
