"""One attempt of one build on an Oxide region."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

from pydantic import SecretStr

from blocks.oxide.client import OxideClient
from blocks.oxide.models import Image, Instance, Resource, Snapshot, SshKey
from tasks import begun
from tasks.mark import Mark
from tasks.oxide.temporary import temporary
from tasks.run import Logger, Run, Witness
from tasks.teardown import Owned

ResourceT = TypeVar("ResourceT", bound=Resource)

_KINDS: dict[type[Resource], str] = {Instance: "instance", Snapshot: "snapshot", SshKey: "ssh-key", Image: "image"}


class OxideRun(Run):
    """A run, with the region's client and the project in which everything is made."""

    def __init__(
        self,
        mark: Mark,
        created: datetime,
        logger: Logger,
        witness: Witness,
        *,
        client: OxideClient,
        token: SecretStr,
        project: str,
    ) -> None:
        super().__init__(mark, created, logger, witness)
        self.client = client
        self.token = token
        """The API token, from which the temporary key is derived."""
        self.project = project
        self._made: list[Owned] = []

    @property
    def known(self) -> Sequence[Owned]:
        """What this attempt has made; nothing once it has to do with a swap of images, whose order a look knows."""
        return [] if any(made.mark.final is not None for made in self._made) else self._made

    async def create_named(
        self,
        what: str,
        create: Callable[[], Awaitable[ResourceT]],
        find: Callable[[], Awaitable[ResourceT]],
        is_ours: Callable[[ResourceT], bool] | None = None,
    ) -> ResourceT:
        """`create_once` for a resource of the region; ours, by default, if its mark is adopted."""
        made = await self.create_once(
            what,
            create,
            find,
            is_ours or (lambda found: self.lineage.adopts(Mark.parse(found.description))),
            lambda found: f"its id is {found.id}, its description is {found.description[:200]!r}",
        )
        self._note(made)
        return made

    def _note(self, made: Resource) -> None:
        mark = Mark.parse(made.description)
        if mark is None:  # an artifact
            return
        self._note_one(temporary(_KINDS[type(made)], made.id, made.name, mark))
        if isinstance(made, Instance) and made.boot_disk_id:
            self._note_one(temporary("disk", made.boot_disk_id, made.name, mark))

    def _note_one(self, made: Owned) -> None:
        self._made.append(made)
        begun.made(self.mark, str(made), made.remove_by_hand)
