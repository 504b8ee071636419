"""The reaper, of a process of its own that is killed. What is left is counted by the region's own inventory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from blocks.oxide.client import OxideClient
from blocks.oxide.credentials import OxideCredentials
from tasks import grounds
from tasks.mark import Lineage
from tests.conftest import RegionInABox, Tune
from tests.tasks.oxide.support import KEY
from tests.tasks.oxide.test_oxide_ground import all_of_a_build
from tests.tasks.support import mark_of

ROOT = Path(__file__).parents[2]
PROC = Path("/proc")


def processes(of_each: str) -> list[Path]:
    return list(PROC.glob(f"[0-9]*/{of_each}"))


def link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def is_there(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


@dataclass
class Victim:
    process: asyncio.subprocess.Process
    reaper: int
    run: UUID

    async def tell(self, *words: str) -> None:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        for word in words:
            stdin.write(f"{word}\n".encode())
            assert await asyncio.wait_for(stdout.readline(), 20) == b"told\n"

    async def die(self) -> None:
        self.process.kill()
        await self.process.wait()


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A copy of the code, as a worker fetches one for each run."""
    there = tmp_path / "code"
    for package in ("blocks", "tasks"):
        shutil.copytree(ROOT / package, there / package, ignore=shutil.ignore_patterns("__pycache__"))
    (there / "tests/tasks").mkdir(parents=True)
    shutil.copy(ROOT / "tests/tasks/reaper_victim.py", there / "tests/tasks")
    return there


@pytest.fixture
async def victim(
    region: RegionInABox, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Victim]:
    """A build's process, whose reaper watches its second attempt."""
    monkeypatch.setenv("OXIDE_TOKEN", region.token.get_secret_value())
    ground = grounds.oxide(OxideCredentials(host=region.api, token=region.token), region.project)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.tasks.reaper_victim",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=code,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    run = uuid4()
    process.stdin.write(json.dumps({"run": str(run), "attempt": 2, "ground": ground}).encode() + b"\n")
    reaper = int(await asyncio.wait_for(process.stdout.readline(), 30))
    yield Victim(process, reaper, run)
    if process.returncode is None:
        await Victim(process, reaper, run).die()
    process.stdin.close()
    # Its end of the pipe is gone: the reaper ends by itself.
    try:
        await until(lambda: not is_there(reaper))
    finally:
        if is_there(reaper):
            with contextlib.suppress(ProcessLookupError):
                os.kill(reaper, signal.SIGKILL)


async def empties(region: RegionInABox, left: list[str]) -> None:
    async with asyncio.timeout(20):
        while await region.names() != left:
            await asyncio.sleep(0.1)


def report(tmp_path: Path) -> str:
    return (tmp_path / "bakery-state/reaper.log").read_text()


async def test_a_killed_build_leaves_nothing(region: RegionInABox, victim: Victim, tmp_path: Path) -> None:
    async with region.client() as client:
        await all_of_a_build(client, region, mark_of(victim.run, attempt=1), "earlier")
        await all_of_a_build(client, region, mark_of(victim.run, attempt=2), "ours")
        await client.create_ssh_key("later", str(mark_of(victim.run, attempt=3)), KEY)
        await client.create_ssh_key("theirs", str(mark_of()), KEY)
        await victim.die()
        await empties(region, ["images/earlier-done", "images/ours-done", "ssh_keys/later", "ssh_keys/theirs"])
    await until(lambda: not is_there(victim.reaper))
    assert "nothing of this run is left" in report(tmp_path)
    assert region.token.get_secret_value() not in report(tmp_path)


async def test_a_build_whose_code_goes_with_it_leaves_nothing(
    region: RegionInABox, victim: Victim, code: Path, tmp_path: Path
) -> None:
    await until((tmp_path / "bakery-state").exists)  # the reaper has begun
    shutil.rmtree(code)
    async with region.client() as client:
        await all_of_a_build(client, region, mark_of(victim.run, attempt=2), "ours")
        await victim.die()
        await empties(region, ["images/ours-done"])
    await until(lambda: not is_there(victim.reaper))
    assert "nothing of this run is left" in report(tmp_path)


async def test_a_build_that_has_cleaned_up_is_left_alone(region: RegionInABox, victim: Victim, tmp_path: Path) -> None:
    async with region.client() as client:
        await client.create_ssh_key("kept", str(mark_of(victim.run)), KEY)
        await victim.tell("done")
        await victim.die()
        await until(lambda: not is_there(victim.reaper))
    assert await region.names() == ["ssh_keys/kept"]
    assert not (tmp_path / "bakery-state/reaper.log").exists()


async def test_a_build_that_is_to_be_kept_is_left_alone(region: RegionInABox, victim: Victim, tmp_path: Path) -> None:
    async with region.client() as client:
        await client.create_ssh_key("kept", str(mark_of(victim.run)), KEY)
        await victim.tell("keep")
        await victim.die()
        await until(lambda: not is_there(victim.reaper))
    assert await region.names() == ["ssh_keys/kept"]
    assert "is kept" in report(tmp_path)


async def test_a_build_that_was_being_cleaned_up_is_kept_no_longer(region: RegionInABox, victim: Victim) -> None:
    async with region.client() as client:
        await client.create_ssh_key("kept", str(mark_of(victim.run)), KEY)
        await victim.tell("keep", "cleaning up")
        await victim.die()
        await empties(region, [])


async def test_it_takes_over_while_the_build_still_lives(region: RegionInABox, victim: Victim) -> None:
    async with region.client() as client:
        await client.create_ssh_key("ours", str(mark_of(victim.run)), KEY)
        await victim.tell("take over")
        await empties(region, [])
    assert victim.process.returncode is None


async def test_it_looks_on_for_what_was_being_created(region: RegionInABox, victim: Victim, tmp_path: Path) -> None:
    async with region.client() as client:
        await client.create_ssh_key("ours", str(mark_of(victim.run)), KEY)
        await victim.tell("creating instance-x", "creating key-y", "created key-y")
        await victim.die()
        await empties(region, [])
    await until(lambda: not is_there(victim.reaper))
    assert "a create was on its way (instance-x)" in report(tmp_path)


async def test_signals_do_not_cut_it_short(region: RegionInABox, victim: Victim) -> None:
    async with region.client() as client:
        await all_of_a_build(client, region, mark_of(victim.run), "ours")
        # It has read what it watches, so it is through its own start.
        await victim.tell("creating x", "created x")
        await until(lambda: _ignores(victim.reaper, signal.SIGTERM))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(victim.reaper, number)
        await victim.die()
        os.kill(victim.reaper, signal.SIGTERM)
        await empties(region, ["images/ours-done"])


def _ignores(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = next(line for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) >> (number - 1) & 1)


async def test_it_is_on_its_own(region: RegionInABox, victim: Victim) -> None:
    await until(lambda: _ignores(victim.reaper, signal.SIGTERM))
    token = region.token.get_secret_value().encode()
    process = Path(f"/proc/{victim.reaper}")
    environment = (process / "environ").read_bytes()
    assert token not in environment
    assert b"OXIDE_TOKEN" not in environment
    assert not any(token in read_bytes(other) for other in processes("cmdline"))
    assert os.getsid(victim.reaper) == victim.reaper
    streams = {name: link(process / "fd" / name) for name in ("0", "1", "2")}
    assert streams["1"] == streams["2"] == "/dev/null"
    # Nobody but the build's process holds the other end of its pipe.
    inode = streams["0"]
    holders = {int(holder.parts[2]) for holder in processes("fd/*") if link(holder) == inode}
    assert holders == {victim.reaper, victim.process.pid}


async def test_a_build_whose_reaper_is_gone_goes_on(region: RegionInABox, victim: Victim) -> None:
    os.kill(victim.reaper, signal.SIGKILL)
    await until(lambda: not is_there(victim.reaper))
    await victim.tell("creating x", "created x", "done", "take over")
    assert victim.process.returncode is None


async def test_the_ground_of_a_region_opens_from_json(region: RegionInABox, tune: Tune) -> None:
    ground = grounds.oxide(OxideCredentials(host=region.api, token=region.token), region.project)
    async with region.client() as client, grounds.opened(json.loads(json.dumps(ground)), Lineage(uuid4(), 1)) as opened:
        assert isinstance(client, OxideClient)
        await client.create_ssh_key("ours", str(mark_of()), KEY)
        assert [found.name async for found in opened.owned()] == ["ours"]
    with pytest.raises(ValueError, match="no such cloud"):
        async with grounds.opened({"cloud": "other"}, Lineage(uuid4(), 1)):
            pass
