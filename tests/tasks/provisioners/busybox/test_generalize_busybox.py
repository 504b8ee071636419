"""`generalize` by busybox, in a jail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.jail import Jail
from tasks.chroot.mounts import Mount
from tasks.provisioners import Generalize
from tests.tasks.provisioners.ansible.conftest import Station
from tests.tasks.provisioners.generalize_dirt import EMPTIED, FILES, KEPT, soiled

MOUNTS = [Mount("proc", "proc", "/proc")]


@pytest.fixture
async def system(jail: Jail, tmp_path: Path) -> Station:
    await jail.mount_extra(MOUNTS)
    station = Station(JailCommunicator(jail), tmp_path)
    await station.there(soiled())
    await station.there("echo 0123 > /etc/machine-id; echo text > /var/log/messages")
    return station


async def left(system: Station) -> set[str]:
    """Which of the files are there, and have something in them."""
    paths = [path for files in FILES.values() for path in files]
    words = " ".join(f"'{path}'" for path in [*paths, "/etc/machine-id", "/var/log/messages", EMPTIED, *KEPT])
    said = await system.there(f'for file in {words}; do if [ -s "$file" ]; then echo "$file"; fi; done')
    return set(said.splitlines())


async def test_all_of_it(system: Station) -> None:
    await Generalize(type="generalize").provision(system.bench())
    assert await left(system) == set(KEPT)
    # Emptied files stay as they were, and so do the directories.
    await system.there(f"ls -d /etc/machine-id /var/log/messages '{EMPTIED}' /var/log/journal /var/tmp")
    assert await system.there("ls -A /tmp /var/tmp /var/log/journal | xargs") == (
        "/tmp: systemd-private-1 /var/log/journal: /var/tmp:"
    )
    said = [line.partition(":")[0] for line in system.said]
    assert said == [
        *("package caches", "shell history", "DHCP leases", "random seed", "temporary files", "! SSH host keys"),
        *("logs", "machine-id"),
    ]
    assert re.match(r"package caches: 8 files, \d+ KiB removed$", system.said[0])


@pytest.mark.parametrize("option", sorted(FILES))
async def test_each_can_be_switched_off(system: Station, option: str) -> None:
    await Generalize.model_validate({"type": "generalize", option: False}).provision(system.bench())
    there = await left(system)
    assert set(FILES[option]) <= there
    assert not any(set(files) & there for other, files in FILES.items() if other != option)


async def test_a_machine_id_that_is_to_stay(system: Station) -> None:
    await Generalize(type="generalize", machine_id=False).provision(system.bench())
    assert await system.there("cat /etc/machine-id") == "0123"


async def test_the_second_time_there_is_nothing_to_do(system: Station) -> None:
    await Generalize(type="generalize").provision(system.bench())
    before = len(system.said)
    await Generalize(type="generalize").provision(system.bench())
    assert [line.partition(":")[0] for line in system.said[before:]] == ["! SSH host keys"]


async def test_what_is_mounted_from_the_host_is_the_hosts(jail: Jail, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    for name in ("cache", "tmp"):
        (shared / name).mkdir(parents=True)
        (shared / name / "of-the-host.deb").write_text("precious")
    mounts = [
        *MOUNTS,
        Mount("bind", str(shared / "cache"), "/var/cache/apt/archives"),
        Mount("bind", str(shared / "cache"), "/var/log"),
        Mount("bind", str(shared / "tmp"), "/tmp"),
        Mount("bind", str(shared / "tmp"), "/var/tmp/inside"),
    ]
    await jail.mount_extra(mounts)
    station = Station(JailCommunicator(jail), tmp_path)
    await Generalize(type="generalize").provision(station.bench())
    assert [file.read_text() for file in sorted(shared.rglob("*.deb"))] == ["precious"] * 2
