"""Counting what exists, in a region and on the host: before a scenario and after it, the difference is what leaked.

None of it is the product's own search. Everything of the region counts; on the host all processes (a lane has a PID
namespace of its own), mounts, block devices, and the files of the places in which builds work.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.end_to_end.world import Region

MARK = "image-bakery run="
_TRACKER = "multiprocessing.resource_tracker"
MOUNTS = Path("/mnt/image-bakery")

PREFECTS = re.compile(r"/prefect-workspace-attempt-[^/]*/")
"""What a killed worker of Prefect's leaves of its own, its run's environment in it: a limit that the README has."""
_LASTING = re.compile(
    r"/(\.local/state/image-bakery|state)/"
    r"(reaper\.log(\.1)?|outscale-rate(/[^/]*)?|outscale-devices[^/]*|[^/]*\.lock)$|/prefect(/|$)|" + PREFECTS.pattern
)
"""Files that stay on a host that has built: the reaper's log, the shared request times, Prefect's home."""


@dataclass(frozen=True)
class Census:
    """What exists at one moment."""

    resources: Mapping[str, Mapping[str, Any]]
    """Of the region, by kind and id."""
    host: frozenset[str]
    """Of this host, each as a line that says what it is."""

    @classmethod
    def take(cls, region: Region, *, bystanders: Iterable[int], alone: Iterable[int], files: Iterable[Path]) -> Census:
        """Count.

        Args:
            region: The region.
            bystanders: Processes that are no build's, nor is what is below them: region, Prefect server.
            alone: Processes that are no build's, but what is below them is: a worker.
            files: Directories whose files count.
        """
        resources = {
            f"{kind} {record['id']}": {"kind": kind, **record}
            for kind, records in region.inventory().items()
            for record in records
        }
        lines = [
            *_processes(set(bystanders), set(alone)),
            *_mounts(),
            *_devices(region.state),
            *_files(files),
        ]
        return cls(resources, frozenset(lines))

    def since(self, before: Census) -> list[str]:
        """What is here and was not before, except for artifacts: images that carry no mark, and what they stand on."""
        new = {key: record for key, record in self.resources.items() if key not in before.resources}
        artifacts = finished(new)
        allowed = {key for image in artifacts for key in (f"images {image['id']}", *_stands_on(image))}
        left = [_shown(key, record) for key, record in new.items() if key not in allowed]
        return [*left, *sorted(self.host - before.host)]

    def artifacts_since(self, before: Census) -> list[Mapping[str, Any]]:
        """The finished images that were not there before."""
        return finished({key: record for key, record in self.resources.items() if key not in before.resources})


def finished(resources: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The images that are no build's any more."""
    images = [record for record in resources.values() if record["kind"] == "images"]
    return [image for image in images if _is_finished(image, resources)]


def _is_finished(image: Mapping[str, Any], resources: Mapping[str, Mapping[str, Any]]) -> bool:
    if "snapshot_ids" not in image:  # Oxide
        return not str(image["description"]).startswith(MARK)
    stands_on = [resources.get(key, {}) for key in _stands_on(image)]
    return all(record.get("tags", {}).get("image-bakery") == "artifact" for record in [image, *stands_on])


def _stands_on(image: Mapping[str, Any]) -> list[str]:
    return [f"snapshots {identifier}" for identifier in image.get("snapshot_ids", ())]


def _shown(key: str, record: Mapping[str, Any]) -> str:
    told = {name: record[name] for name in ("name", "description", "state", "tags", "client_token") if record.get(name)}
    return f"{key} {told}"


def descendants(roots: Iterable[int]) -> set[int]:
    """The processes below some, and these."""
    children: dict[int, list[int]] = {}
    for pid in pids():
        children.setdefault(parent(pid), []).append(pid)
    found: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, [])
    return found


def pids() -> list[int]:
    """All processes of this PID namespace."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def parent(pid: int) -> int:
    """The parent's number, 0 when there is none."""
    return int(_stat(pid)[1]) if _stat(pid) else 0


def is_zombie(pid: int) -> bool:
    """Whether it only waits to be reaped."""
    return not _stat(pid) or _stat(pid)[0] in "ZX"


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def command_line(pid: int) -> str:
    """A process's arguments, with blanks between."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _processes(bystanders: set[int], alone: set[int]) -> Iterator[str]:
    others = descendants(bystanders) | alone | {os.getpid()}
    for pid in pids():
        said = command_line(pid)
        # Python's own helper of a parent that starts processes ends with that parent.
        if pid not in others and not is_zombie(pid) and not (parent(pid) in alone and _TRACKER in said):
            yield f"process {pid}: {said[:200]}"


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        yield f"mount {words[4]} of {' '.join(words[words.index('-') + 1 :][:2])}"


def _devices(state: Path) -> Iterator[str]:
    """Loop devices of the region's files, and the names of block devices that a VM's volumes have."""
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            file = entry.read_text(encoding="utf-8").strip()
            if file.startswith(str(state)):
                yield f"loop device {entry.parts[3]} of {Path(file).name}"
                yield from _nodes(entry.parts[3])


def _nodes(loop: str) -> Iterator[str]:
    number = int(loop.removeprefix("loop"))
    for node in Path("/dev").glob("xvd*"):
        with suppress(OSError):
            if os.minor(node.lstat().st_rdev) == number:
                yield f"device node {node}"


def _files(directories: Iterable[Path]) -> Iterator[str]:
    for directory in [*directories, MOUNTS]:
        for path in directory.rglob("*"):
            if not path.is_dir() and not _LASTING.search(str(path)):
                yield f"file {path}"
            elif path.is_dir() and path.is_relative_to(MOUNTS):
                yield f"directory {path}"
