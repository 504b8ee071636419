"""Secrets as canaries: where else than in the hands of those who need them are they seen?

While a scenario runs, the command lines and environments of all processes are looked at several times a second; after
it, the logs, the Prefect server's database (all of it: rows, artifacts, events, parameters) and the files that are
left.
"""

from __future__ import annotations

import base64
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.census import command_line, pids

_LOOK = 0.15
_PIECE = 1 << 22


@dataclass(frozen=True)
class Canary:
    """One secret."""

    name: str
    value: str
    in_guests: bool = False
    """Whether the programs that a provisioner runs may have it in their environment."""

    @property
    def forms(self) -> tuple[bytes, ...]:
        """The secret, and how it would look in base64."""
        plain = self.value.encode()
        return plain, base64.b64encode(plain).rstrip(b"=")[:-1]


class Canaries:
    """The secrets of a lane, and where they were seen."""

    def __init__(self, canaries: Iterable[Canary], builders: Iterable[str], home: Path) -> None:
        """Take note of the secrets.

        Args:
            canaries: The secrets.
            builders: Parts of the command lines of those programs that are given secrets by their environment.
            home: The root directory of programs that are in no guest and no jail.
        """
        self._canaries = list(canaries)
        self._builders = tuple(builders)
        self._home = home
        self._seen: set[str] = set()
        self._rows: dict[str, int] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at all processes while the block runs."""
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def seen(self) -> list[str]:
        """Where secrets were seen since this was asked last."""
        found, self._seen = sorted(self._seen), set()
        return found

    def search_files(self, files: Iterable[Path]) -> None:
        """Search files, a database among them."""
        for path in files:
            with suppress(OSError):
                for name in self._in_file(path):
                    self._seen.add(f"{name} in {path}")

    def search_text(self, where: str, text: str) -> None:
        """Search a text."""
        for canary in self._canaries:
            if any(form in text.encode() for form in canary.forms):
                self._seen.add(f"{canary.name} in {where}")

    def search_database(self, path: Path) -> None:
        """Search the rows of an SQLite database that have been added since the last time.

        Rows that were changed are found by `search_files`; a text that goes over several pages only here.
        """
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
        try:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                last = self._rows.get(table, 0)
                for row in database.execute(f'SELECT rowid, * FROM "{table}" WHERE rowid > ?', (last,)):
                    self._rows[table] = row[0]
                    self.search_text(f"the database's table {table}", " ".join(map(str, row)))
        finally:
            database.close()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(_LOOK):
            for pid in pids():
                self._look_at(pid)

    def _look_at(self, pid: int) -> None:
        said = command_line(pid)
        if not said:  # it ends, or becomes another program: the next look tells
            return
        environment = b""
        with suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        for canary in self._canaries:
            if any(form in said.encode() for form in canary.forms):
                self._seen.add(f"{canary.name} in the command line of {said.replace(canary.value, '*****')[:200]}")
            if any(form in environment for form in canary.forms) and not self._needs(pid, said, canary):
                self._seen.add(f"{canary.name} in the environment of {said[:200]}")

    def _needs(self, pid: int, said: str, canary: Canary) -> bool:
        # Between fork and exec a child still is what its parent was.
        if pid == os.getpid() or any(builder in said for builder in self._builders):
            return True
        return canary.in_guests and self._is_elsewhere(pid)

    def _is_elsewhere(self, pid: int) -> bool:
        """Whether a process is in a guest or a jail, or is gone by now."""
        try:
            return Path(f"/proc/{pid}/root").readlink() != self._home or not Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return True

    def _in_file(self, path: Path) -> Iterator[str]:
        longest = max(len(form) for canary in self._canaries for form in canary.forms)
        missing = {canary.name: canary.forms for canary in self._canaries}
        with path.open("rb") as file:
            tail = b""
            while piece := file.read(_PIECE):
                data = tail + piece
                for name in [name for name, forms in missing.items() if any(form in data for form in forms)]:
                    del missing[name]
                    yield name
                tail = data[-longest:]
