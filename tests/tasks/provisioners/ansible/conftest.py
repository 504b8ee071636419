"""Systems with Python for Ansible: a guest over SSH, and a jail around a chroot."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.jail import Jail
from tasks.communicator import Communicator, read
from tasks.provisioners.common import Bench
from tests.tasks.chroot.cellar import make_disk, need_root
from tests.tasks.chroot.conftest import disk, volume  # noqa: F401 (fixtures)
from tests.tasks.ssh.conftest import Oven, oven  # noqa: F401 (a fixture)

_LEFT_OUT = shutil.ignore_patterns(
    *("__pycache__", "config-*", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "dist-packages"),
    *("test", "tests", "tkinter", "turtledemo", "unittest", "*.a"),
)


def _libraries(*programs: Path) -> set[Path]:
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    return {Path(name) for name in re.findall(r"(/\S+) \(0x", said)}


@pytest.fixture(scope="session")
def tiny(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny guest with the Python that runs the tests."""
    need_root()
    directory = tmp_path_factory.mktemp("python")
    (directory / "disk.raw").symlink_to(tiny / "disk.raw")
    root = directory / "root"
    # Its hard links have to stay what they are.
    subprocess.run(["cp", "-a", "--", tiny / "root", root], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = Path(sys.base_prefix)
    shutil.copytree(home / "lib" / version, root / "usr/lib" / version, ignore=_LEFT_OUT, symlinks=True)
    program = (home / "bin" / version).resolve()
    shutil.copy(program, root / "usr/bin" / version)
    (root / "usr/bin/python3").symlink_to(version)
    for library in _libraries(program, *(home / "lib" / version / "lib-dynload").glob("*.so")):
        there = root / ("usr/lib64" if library.name.startswith("ld-") else "usr/lib/x86_64-linux-gnu") / library.name
        if not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, there)
    # Ansible itself wants a UTF-8 locale.
    shutil.copytree("/usr/lib/locale/C.utf8", root / "usr/lib/locale/C.utf8")
    return directory


@pytest.fixture(scope="session")
def master(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tree on a disk, for jails."""
    file = tmp_path_factory.mktemp("master") / "disk.raw"
    make_disk(tiny / "root", file, 160 << 20)
    return file


@dataclass
class Station:
    """A system that is being made, a directory with a definition, and the log."""

    communicator: Communicator
    base: Path
    said: list[str] = field(default_factory=list)

    def bench(self, **variables: str) -> Bench:
        logger = logging.Logger("image_bakery.test")
        handler = logging.Handler()
        handler.emit = lambda record: self.said.append(  # type: ignore[method-assign]
            ("! " if record.levelno > logging.INFO else "") + record.getMessage()
        )
        logger.addHandler(handler)
        return Bench(self.communicator, logger, self.base, variables)

    def write(self, name: str, text: str) -> Path:
        path = self.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    async def there(self, command: str) -> str:
        code, said = await read(self.communicator, command)
        assert code == 0, said
        return said

    @property
    def log(self) -> str:
        return "\n".join(self.said)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    base = tmp_path / "definition"
    base.mkdir()
    return base


@pytest.fixture
async def guest(oven: Oven, base: Path) -> AsyncIterator[Station]:  # noqa: F811
    guest = oven.guest()
    await guest.connect(60)
    yield Station(guest, base)
    guest.close()


@pytest.fixture
async def jailed(volume: Any, tmp_path: Path, base: Path) -> AsyncIterator[Station]:  # noqa: F811
    async with Jail(tmp_path / "mounted", logging.getLogger("tests")) as jail:
        await jail.mount_device(volume.partition)
        await jail.mount_extra(disk=volume.disk)
        yield Station(JailCommunicator(jail), base)


@pytest.fixture(params=["guest", "jailed"])
def station(request: pytest.FixtureRequest) -> Station:
    """Both, one after the other."""
    station: Station = request.getfixturevalue(request.param)
    return station
