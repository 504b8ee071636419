"""The operations of the API, by the ids that the API document gives them."""

from __future__ import annotations

from emulators.oxide.routes import groups, instances, networks, storage, users

OPERATIONS = [
    *users.OPERATIONS,
    *networks.OPERATIONS,
    *storage.OPERATIONS,
    *instances.OPERATIONS,
    *groups.OPERATIONS,
]
