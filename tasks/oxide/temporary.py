"""A temporary resource on an Oxide region, as teardown knows it."""

from __future__ import annotations

from tasks.mark import Mark
from tasks.oxide.by_hand import by_hand
from tasks.teardown import Owned

_RANKS = {"instance": 0, "disk": 1, "snapshot": 1, "ssh-key": 1, "image": 2}


def temporary(kind: str, identifier: str, name: str, mark: Mark) -> Owned:
    """What is to be removed in its turn."""
    return Owned(kind, identifier, name, mark, _RANKS[kind], by_hand(kind, identifier, mark))
