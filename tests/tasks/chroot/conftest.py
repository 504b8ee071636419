"""Disks and jails for one test each, and that nothing of them is left."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.device import wait_for_partition
from tasks.chroot.jail import Jail
from tests.tasks.chroot.cellar import (
    Volume,
    copy_sparse,
    host,
    linked,
    make_disk,
    mounts_of,
    need_root,
    processes_about,
    until,
)


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


@pytest.fixture(scope="session")
def master(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with the tiny guest's tree, made once and copied for each test."""
    need_root()
    file = tmp_path_factory.mktemp("master") / "disk.raw"
    make_disk(tiny / "root", file)
    return file


@pytest.fixture
def disk(master: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A linked disk of its own, and the file behind it; afterwards nothing may use it."""
    file = tmp_path / "volume.raw"
    copy_sparse(master, file)
    with linked(file) as name:
        yield name, file
        until(lambda: mounts_of(name) == [])
    assert str(tmp_path) not in host("losetup", "--all")
    until(lambda: processes_about(str(tmp_path)) == [])


@pytest.fixture
async def volume(disk: tuple[str, Path]) -> Volume:
    """That disk, its partition seen by the kernel."""
    return Volume(disk[0], await wait_for_partition(disk[0], 1, 10), disk[1])


@pytest.fixture
async def jail(volume: Volume, tmp_path: Path) -> AsyncIterator[Jail]:
    """A jail with the volume's root mounted, and the default mounts."""
    async with Jail(tmp_path / "mounted", logging.getLogger("tests")) as jail:
        await jail.mount_device(volume.partition)
        await jail.mount_extra(disk=volume.disk)
        yield jail


@pytest.fixture
def communicator(jail: Jail) -> JailCommunicator:
    return JailCommunicator(jail)
