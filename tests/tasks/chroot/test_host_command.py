"""Host shell text: before the mount on the host, after it where the mount is."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.host_command import run_beside_jail, run_on_host
from tasks.chroot.jail import Jail
from tasks.communicator import read
from tests.tasks.chroot.cellar import eventually, is_mounted_at, processes_about, until


async def test_a_command_on_the_host_has_its_shell_environment_and_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_BUILDER", "here")
    said = bytearray()
    assert await run_on_host("echo $OF_THE_BUILDER; pwd; echo err >&2; exit 4", said.extend, directory=tmp_path) == 4
    assert said.decode() == f"here\n{tmp_path}\nerr\n"
    assert await run_on_host("kill -9 $$", said.extend) == -1


async def test_a_cancelled_command_on_the_host_ends_with_all_it_started(tmp_path: Path) -> None:
    begun = asyncio.Event()
    command = f"(setsid sh -c 'sleep 1000; : {tmp_path}' &); echo; sleep 1000; : {tmp_path}"
    running = asyncio.create_task(run_on_host(command, lambda _: begun.set()))
    async with asyncio.timeout(10):
        await begun.wait()
        await eventually(lambda: len(processes_about(str(tmp_path))) >= 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    await eventually(lambda: processes_about(str(tmp_path)) == [])


def test_a_command_on_the_host_ends_when_the_builder_is_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from tasks.chroot.host_command import run_on_host\n"
        "asyncio.run(run_on_host(sys.argv[1], lambda data: print(data, flush=True)))"
    )
    command = f"(setsid sh -c 'sleep 1000; : {tmp_path}' &); echo begun; sleep 1000; : {tmp_path}"
    builder = subprocess.Popen(
        [sys.executable, "-c", program, command], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert builder.stdout is not None
    builder.stdout.readline()
    builder.kill()
    builder.communicate()
    until(lambda: processes_about(str(tmp_path)) == [])


async def test_a_command_beside_the_jail_sees_the_mount_and_the_host(
    jail: Jail, communicator: JailCommunicator, tmp_path: Path
) -> None:
    said = bytearray()
    command = f"echo by-the-host > {jail.mount_path}/opt/file; ls {tmp_path}; mkdir {jail.mount_path}/opt/m"
    assert await run_beside_jail(jail, f"{command}; mount -t tmpfs x {jail.mount_path}/opt/m", said.extend) == 0
    assert "volume.raw" in said.decode()
    assert await read(communicator, "cat /opt/file; grep -c /opt/m /proc/mounts") == (0, "by-the-host\n1")
    assert not is_mounted_at(tmp_path)
    await jail.unmount(10)
