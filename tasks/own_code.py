"""Our own modules, kept in memory: a worker removes the code that it fetched for a run when the run's process is gone.

Who goes on after that, the reaper, may still have to import what it did not need until then.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

_PACKAGES = ("blocks", "tasks")


def keep_own_code() -> None:
    """From now on, import these packages' modules as they are now, whether their files are there or not."""
    sys.meta_path.insert(0, _Kept(Path(__file__).resolve().parents[1]))


class _Kept(MetaPathFinder, SourceLoader):  # type: ignore[misc]  # the stubs' own base classes do not agree
    """Finds and loads modules whose source it has read."""

    def __init__(self, root: Path) -> None:
        self._sources: dict[str, bytes] = {}
        self._files: dict[str, str] = {}
        for package in _PACKAGES:
            for file in (root / package).rglob("*.py"):
                parts = file.relative_to(root).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                self._files[name] = str(file)
                self._sources[str(file)] = file.read_bytes()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the interpreter's own
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        file = self._files.get(fullname)
        return spec_from_file_location(fullname, file, loader=self) if file is not None else None

    def get_filename(self, fullname: str) -> str:
        """See `importlib.abc.ExecutionLoader`."""
        return self._files[fullname]

    def get_data(self, path: str | bytes) -> bytes:
        """See `importlib.abc.ResourceLoader`."""
        try:
            return self._sources[str(path)]
        except KeyError:
            raise OSError(f"not kept: {path!r}") from None
