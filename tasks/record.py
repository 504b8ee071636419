"""What a system that is being made has already had, kept in that system itself.

A build that is kept after a failure goes on at the provisioner that failed, possibly in another process on another
host. Only the system itself knows what has been done to it, so it is written there: an entry for each provisioner that
is finished, and one for the one that was begun. An entry holds the provisioner's place, its label and a digest of what
it does.

It is in `/var/lib/image-bakery` where we are root or may be it by `sudo -n`, otherwise in the user's own directory. It
is on disk, with all that the provisioner did, before the next one begins. A finished provisioner whose digest has
changed is an error: neither is it undone, nor would running it a second time make what the definition says.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from blocks.errors import ProvisionerFailed, RecordMismatch
from tasks.communicator import Communicator, as_root, must
from tasks.digest import digest_of
from tasks.provisioners import Provisioner

_SYSTEM = "/var/lib/image-bakery"
_OWN = '"$HOME"/.image-bakery'
_VERSION = 1
_LONGEST_LABEL = 100


@dataclass(frozen=True)
class Entry:
    """One provisioner."""

    place: int
    """From 1, as in the definition."""
    label: str
    digest: str


class Record:
    """What one system has had.

    Each of `begin` and `finish` writes it in one round trip, and `finish` can write the next one's beginning along.

    Args:
        communicator: How the system is reached.
        run: Whose build it is: the flow run's id.
        directory: Where it is kept there, as a shell word.
        as_root: Whether it is written as root.
        finished: What is finished.
        begun: What was begun and not finished.
    """

    def __init__(
        self,
        communicator: Communicator,
        run: str,
        directory: str = _SYSTEM,
        *,
        as_root: bool = True,
        finished: Sequence[Entry] = (),
        begun: Entry | None = None,
    ) -> None:
        self.finished = list(finished)
        self.begun = begun
        self._communicator = communicator
        self._run = run
        self._directory = directory
        self._as_root = as_root

    @classmethod
    async def read(cls, communicator: Communicator, run: str) -> Self:
        """Read the record of a system, in one round trip.

        One that another flow run has left, in the source image perhaps, says nothing about this one.

        Args:
            communicator: How the system is reached.
            run: The id of the flow run whose system this is.

        Raises:
            ProvisionerFailed: it cannot be read.
        """
        said = await must(communicator, _READ, what="read what the system has already had")
        where, _, text = said.partition("\n")
        directory, root = (_SYSTEM, True) if where == "system" else (_OWN, False)
        record = cls(communicator, run, directory, as_root=root)
        try:
            found = json.loads(text) if text.strip() else None
            if found is not None and found["version"] == _VERSION and found["run"] == run:
                record.finished = [Entry(**entry) for entry in found["finished"]]
                record.begun = Entry(**found["begun"]) if found["begun"] else None
        except (ValueError, KeyError, TypeError) as error:
            raise ProvisionerFailed(
                "what it says that it has already had cannot be understood",
                resource="the system that is being made",
                why=f"{where} record: {error}",
                hint=f"Did a provisioner change {directory}? Start a new build.",
            ) from None
        return record

    def has(self, entry: Entry) -> bool:
        """Whether the system has had this.

        Raises:
            RecordMismatch: it has had something else in that place.
        """
        for had in self.finished:
            if had.place == entry.place:
                if had.digest != entry.digest:
                    raise _mismatch(had, f"it is {entry.label} now, or does something else")
                return True
        return False

    def check_end(self, provisioners: int) -> None:
        """See that the definition still has all that the system has had.

        Raises:
            RecordMismatch: it has fewer provisioners now.
        """
        for had in self.finished:
            if had.place > provisioners:
                raise _mismatch(had, "the definition no longer has it")

    async def begin(self, entry: Entry) -> None:
        """Write that a provisioner begins, unless that is what is written."""
        if self.begun != entry:
            self.begun = entry
            await self._write()

    async def finish(self, entry: Entry, then: Entry | None = None) -> None:
        """Write that a provisioner is finished, and which one begins now."""
        self.finished.append(entry)
        self.begun = then
        await self._write()

    async def _write(self) -> None:
        text = json.dumps(
            {
                "version": _VERSION,
                "run": self._run,
                "finished": [asdict(entry) for entry in self.finished],
                "begun": asdict(self.begun) if self.begun else None,
            }
        )
        script = _WRITE.format(directory=self._directory, text=shlex.quote(text))
        await must(
            self._communicator,
            as_root(script) if self._as_root else script,
            what="write down what the system has had",
        )


async def remove_record(communicator: Communicator) -> None:
    """Remove the record: an image must not hold it. There may be none.

    Raises:
        ProvisionerFailed: it is there, and cannot be removed.
    """
    await must(communicator, _REMOVE, what="remove the record of what the system has had")


async def entry(place: int, label: str, provisioner: Provisioner, base: Path) -> Entry:
    """The entry of a provisioner.

    Args:
        place: Its place in the definition, from 1.
        label: What the log calls it.
        provisioner: The provisioner as this build has it.
        base: The definition's directory.
    """
    digest = await asyncio.to_thread(digest_of, provisioner.what_is_done(), provisioner.files_here(), base)
    return Entry(place, label[:_LONGEST_LABEL], digest)


def _mismatch(had: Entry, now: str) -> RecordMismatch:
    return RecordMismatch(
        "the definition was changed where this system has already been",
        resource=f"provisioner {had.place} ({had.label})",
        why=f"the system has had it, and {now}",
        hint="Put it back as it was and go on, or start a new build. What is not finished yet may change.",
    )


# Whoever is not root and may become it later would else look for the record where it is not.
_READ = f"""
be_root() {{ if [ "$(id -u)" = 0 ]; then sh -c "$1"; else sudo -n sh -c "$1" 2>/dev/null; fi; }}
if be_root 'test -f {_SYSTEM}/record'; then echo system; be_root 'cat {_SYSTEM}/record'
elif test -f {_OWN}/record; then echo own; cat {_OWN}/record
elif be_root true; then echo system
else echo own; fi
"""

# First what the provisioner did, then the record, is on disk: what it says is finished is there after a power cut.
_WRITE = """
set -e
umask 077
mkdir -p {directory}
printf %s {text} > {directory}/record.new
sync
mv -f {directory}/record.new {directory}/record
sync
"""

_REMOVE = f"""
rm -rf {_OWN} || exit 1
if [ ! -e {_SYSTEM} ]; then exit 0; fi
{as_root(f"rm -rf {_SYSTEM}")}
"""
