"""A jail ends with the process that builds, whatever ends that."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.device import wait_until_free
from tasks.chroot.jail import Jail
from tests.tasks.chroot.cellar import Volume, is_free, mounts_of, parent_of, processes_about, until

_BUILDER = """
import asyncio, json, sys, threading
from pathlib import Path
from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.jail import Jail

async def main(mount_path, partition, disk, sleep):
    async with Jail(Path(mount_path)) as jail:
        await jail.mount_device(partition)
        await jail.mount_extra(disk=disk)
        communicator = JailCommunicator(jail)
        said = lambda data: print(json.dumps(jail.first_process), flush=True)
        await communicator.run(f"(setsid sleep {sleep} &) ; cd /opt; echo begun; trap '' TERM; sleep {sleep}", said)

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def builder(volume: Volume, mount_path: Path, sleep: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A builder in the middle of a provisioner, and its jail's first process."""
    process = subprocess.Popen(
        [sys.executable, "-c", _BUILDER, str(mount_path), volume.partition, volume.disk, sleep],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        until(lambda: len(processes_about(f"sleep {sleep}")) >= 2)
        yield process, first
    finally:
        process.kill()
        process.communicate()


def _sleep(tmp_path: Path) -> str:
    return f"{100_000 + os.getpid() % 10_000}.{abs(hash(tmp_path)) % 100_000}"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_builder_that_is_killed_leaves_no_process_mount_or_busy_device(
    volume: Volume, tmp_path: Path, number: signal.Signals
) -> None:
    sleep = _sleep(tmp_path)
    with builder(volume, tmp_path / "mounted", sleep) as (process, first):
        process.send_signal(number)
        until(lambda: not Path(f"/proc/{first}").exists(), 30)
        until(lambda: is_free(volume.disk), 30)
        process.wait(30)
    until(lambda: processes_about(str(tmp_path)) == [] and processes_about(sleep) == [], 30)
    assert mounts_of(volume.disk) == []
    assert not (tmp_path / "mounted").exists()


def test_a_keeper_that_is_killed_takes_the_jail_along(volume: Volume, tmp_path: Path) -> None:
    with builder(volume, tmp_path / "mounted", _sleep(tmp_path)) as (process, first):
        keeper = parent_of(first)
        os.kill(keeper, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{first}").exists(), 30)
        until(lambda: is_free(volume.disk), 30)
        assert process.wait(30) != 0
    until(lambda: processes_about(_sleep(tmp_path)) == [], 30)


def test_a_builder_that_is_stopped_keeps_its_jail_and_frees_it_when_killed(volume: Volume, tmp_path: Path) -> None:
    with builder(volume, tmp_path / "mounted", _sleep(tmp_path)) as (process, first):
        process.send_signal(signal.SIGSTOP)
        assert Path(f"/proc/{first}").exists()
        process.kill()
        until(lambda: is_free(volume.disk) and not Path(f"/proc/{first}").exists(), 30)


async def test_the_device_is_free_when_a_build_was_cancelled(volume: Volume, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def build() -> None:
        async with Jail(tmp_path / "mounted") as jail:
            await jail.mount_device(volume.partition)
            await JailCommunicator(jail).run("cd /opt; echo; sleep 1000", lambda _: begun.set())

    building = asyncio.create_task(build())
    async with asyncio.timeout(10):
        await begun.wait()
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building
    await wait_until_free(volume.disk, 5)


async def test_a_keeper_that_is_told_to_end_over_and_over_leaves_no_directory(volume: Volume, tmp_path: Path) -> None:
    """A builder's end reaches it twice: its line breaks and it is signalled, in any order and at any moment."""
    for _ in range(20):
        jail = Jail(tmp_path / "mounted")
        await jail.start()
        keeper = parent_of(jail.first_process)
        await jail.mount_device(volume.partition)
        ending = asyncio.create_task(jail.close())
        while not ending.done():
            with suppress(ProcessLookupError):
                os.kill(keeper, signal.SIGTERM)
            await asyncio.sleep(0)
        assert not (tmp_path / "mounted").exists()
