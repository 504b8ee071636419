"""Provisioners in real systems, run as a build runs them: what hangs is killed, what is big is streamed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from blocks.errors import CommunicatorError, ProvisionerFailed, WaitExpired
from tasks.provisioners import File
from tasks.provisioners.common import Bench
from tasks.record import Record, remove_record
from tests.conftest import Tune
from tests.tasks.provisioners.conftest import System
from tests.tasks.ssh.conftest import Oven
from tests.tasks.support import LOG
from tests.tasks.test_provision import bake, plain_steps, shell

__all__ = ["plain_steps"]

MIB = 1 << 20
HANG = "touch /opt/hangs; trap '' TERM HUP; (trap '' TERM HUP; sleep 98765) & sleep 98765"


async def gone(system: System, word: str) -> None:
    """Wait until no process there has a word in its command line, but the one that asks."""
    lines = "for it in /proc/[0-9]*; do tr '\\000' ' ' < $it/cmdline; echo; done 2>/dev/null"
    ask = f"{lines} | grep -c '[{word[0]}]{word[1:]}'"
    async with asyncio.timeout(30):
        while await system.says(ask) != "0":
            await asyncio.sleep(0.1)


async def test_what_hangs_is_killed_there(system: System) -> None:
    with pytest.raises(WaitExpired, match="not through after 3 s"):
        await bake(system.communicator, shell(HANG, timeout="3s"))
    await gone(system, "sleep 98765")
    await gone(system, "script_")
    assert await system.says("ls /tmp; ls /opt") == "hangs"


async def test_a_retry_after_one_that_hung_is_fresh(system: System) -> None:
    script = f"if mkdir /opt/lock; then {HANG}; fi; ! test -e /opt/second; touch /opt/second"
    await bake(system.communicator, shell(script, timeout="3s", max_retries=1))
    await gone(system, "sleep 98765")
    assert await system.says("ls /opt; ls /tmp") == "hangs\nlock\nsecond"


async def test_the_error_cleanup_runs_in_the_system_when_the_build_is_cancelled(system: System) -> None:
    # Of the files that it saves, the killed script must not write any more.
    building = asyncio.create_task(
        bake(system.communicator, shell(HANG), cleanup=shell("test -e /opt/hangs && touch /opt/saved", timeout=60))
    )
    async with asyncio.timeout(60):
        while await system.says("ls /opt") != "hangs":
            await asyncio.sleep(0.05)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    await gone(system, "sleep 98765")
    assert await system.says("ls /opt") == "hangs\nsaved"


async def test_the_error_cleanup_runs_in_the_system_when_a_provisioner_fails(system: System) -> None:
    with pytest.raises(ProvisionerFailed, match="exit code 7"):
        await bake(system.communicator, shell("exit 7"), cleanup=shell("touch /opt/saved"))
    assert await system.says("ls /opt") == "saved"


def tree(at: Path) -> None:
    (at / "sub dir" / "empty").mkdir(parents=True)
    (at / "run.sh").write_text("#!/bin/sh\n")
    (at / "sub dir" / "private").write_text("x")
    for path, mode in (("run.sh", 0o755), ("sub dir/private", 0o600), ("sub dir/empty", 0o700), ("sub dir", 0o750)):
        (at / path).chmod(mode)
    at.chmod(0o711)


def seen(at: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(at)), path.stat().st_mode & 0o7777) for path in [at, *at.rglob("*")])


async def copy(system: System, base: Path, **options: Any) -> None:
    await File.model_validate({"type": "file", **options}).provision(Bench(system.communicator, LOG, base, {}))


@pytest.mark.parametrize(
    ("up", "there", "down", "here"),
    [
        ("tree", "/opt/tree", "/opt/tree", "back/tree"),
        ("tree/", "/opt", "/opt/", "back"),
        ("tree/", "/opt/", "/opt/", "back"),
        ("tree", "/opt/tree", "/opt/tr*", "back/tree"),
    ],
)
async def test_a_directory_goes_up_and_comes_back(
    system: System, tmp_path: Path, up: str, there: str, down: str, here: str
) -> None:
    tree(tmp_path / "tree")
    await copy(system, tmp_path, source=up, destination="/opt/")
    listing = await system.says(f"cd {there}; find . -exec stat -c '%n %a' {{}} + | sort | tail -n +2")
    assert listing.splitlines() == ["./run.sh 755", "./sub dir 750", "./sub dir/empty 700", "./sub dir/private 600"]
    await copy(system, tmp_path, source=down, destination="back", direction="download")
    assert seen(tmp_path / here)[1:] == seen(tmp_path / "tree")[1:]
    assert (tmp_path / here / "sub dir" / "private").read_text() == "x"


async def test_every_source_is_downloaded_also_after_a_directory(system: System, tmp_path: Path) -> None:
    await system.says("mkdir -p /opt/d /opt/logs; echo 1 > /opt/d/one; echo 2 > /opt/two; echo 3 > '/opt/logs/a b.log'")
    await system.says("echo 4 > /opt/logs/c.log; echo 5 > /opt/logs/d.txt; chmod 640 /opt/two")
    await copy(
        system,
        tmp_path,
        sources=["/opt/d/", "/opt/logs/*.log", "/opt/two", "/opt/d", "/opt/logs/[d].t?t"],
        destination="out/",
        direction="download",
    )
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"one", "a b.log", "c.log", "d.txt", "two", "d/one"}
    with pytest.raises(ProvisionerFailed, match="nothing there matches"):
        await copy(system, tmp_path, source="/opt/none*", destination="out", direction="download")
    with pytest.raises(CommunicatorError, match="/opt/none"):
        await copy(system, tmp_path, source="/opt/none", destination="out/", direction="download")


async def test_a_directory_that_is_there_keeps_its_mode(system: System, tmp_path: Path) -> None:
    tree(tmp_path / "tree")
    await system.says("chmod 1777 /tmp")
    await copy(system, tmp_path, source="tree/", destination="/tmp/")
    assert await system.says("stat -c %a /tmp") == "1777"


async def test_a_big_file_takes_no_more_memory_than_a_small_one(system: System, tmp_path: Path) -> None:
    if system.kind == "jail":
        await system.says("mount -t tmpfs -o size=600m x /mnt")
    size = 300 * MIB
    with (tmp_path / "big").open("wb") as file:
        file.truncate(size)
        file.write(os.urandom(4096))

    async def growth(work: Callable[[], Awaitable[None]]) -> int:
        before = peak = resident()
        working = asyncio.ensure_future(work())
        while not working.done():
            await asyncio.wait([working], timeout=0.02)
            peak = max(peak, resident())
        await working
        return peak - before

    up = await growth(lambda: copy(system, tmp_path, source="big", destination="/mnt/big"))
    down = await growth(lambda: copy(system, tmp_path, source="/mnt/big", destination="back", direction="download"))
    assert max(up, down) < 64 * MIB
    assert (tmp_path / "back").stat().st_size == size
    with (tmp_path / "back").open("rb") as back, (tmp_path / "big").open("rb") as big:
        assert back.read(4096) == big.read(4096)
    (tmp_path / "big").unlink()
    (tmp_path / "back").unlink()


def resident() -> int:
    """Bytes of this process that are in memory (proc_pid_statm(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class TestTheRecord:
    async def test_it_is_in_the_system_where_root_alone_reads_it_and_goes(self, system: System) -> None:
        run = str(uuid4())
        with pytest.raises(ProvisionerFailed):
            await bake(
                system.communicator,
                shell("echo x >> /opt/first"),
                shell("test -e /opt/mended"),
                record=await Record.read(system.communicator, run),
            )
        assert await system.says("stat -c '%a %U %n' /var/lib/image-bakery /var/lib/image-bakery/*") == (
            "700 root /var/lib/image-bakery\n600 root /var/lib/image-bakery/record"
        )
        await system.says("touch /opt/mended")
        record = await Record.read(system.communicator, run)
        await bake(system.communicator, shell("echo x >> /opt/first"), shell("test -e /opt/mended"), record=record)
        assert await system.says("cat /opt/first") == "x"
        await remove_record(system.communicator)
        await remove_record(system.communicator)
        assert await system.says("ls -d /var/lib/image-bakery /root/.image-bakery 2>/dev/null") == ""
        assert (await Record.read(system.communicator, run)).finished == []

    async def test_a_record_of_another_run_is_none(self, system: System) -> None:
        await bake(system.communicator, shell("true"), record=await Record.read(system.communicator, "of the source"))
        assert (await Record.read(system.communicator, "mine")).finished == []
        assert len((await Record.read(system.communicator, "of the source")).finished) == 1

    async def test_a_record_that_was_spoilt_is_an_error(self, system: System) -> None:
        await system.says("mkdir -p /var/lib/image-bakery; echo '{\"version\": 1' > /var/lib/image-bakery/record")
        with pytest.raises(ProvisionerFailed, match="cannot be understood"):
            await Record.read(system.communicator, "r")


async def test_a_user_with_sudo_writes_the_record_as_root(oven: Oven, tune: Tune) -> None:
    guest = oven.guest("baker")
    await guest.connect(30)
    system = System("ssh", guest)
    record = await Record.read(guest, "r")
    await bake(guest, shell("true"), record=record)
    can = await system.says("sudo -n true 2>/dev/null && echo yes")
    where = "/var/lib/image-bakery" if can == "yes" else "/home/baker/.image-bakery"
    root = oven.guest()
    await root.connect(30)
    assert await System("ssh", root).says(f"ls {where}") == "record"
    assert len((await Record.read(guest, "r")).finished) == 1
    await remove_record(guest)
    assert await System("ssh", root).says(f"ls -d {where} 2>/dev/null") == ""
    guest.close()
    root.close()
