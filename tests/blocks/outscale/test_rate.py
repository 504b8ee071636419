"""The rate that processes share. Not how long a slot takes is looked at, only how many requests there are a second."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blocks.outscale.rate import SharedRate, shared_rate
from tests.conftest import Tune

SECOND = 1_000_000_000
ROOT = Path(__file__).parents[3]

TAKE = """
import asyncio, random, sys, time
from pathlib import Path
from blocks.outscale.rate import SharedRate

async def take():
    rate = SharedRate(Path(sys.argv[1]), int(sys.argv[2]))
    async def one():
        async with rate.slot():
            await asyncio.sleep(random.uniform(0, 0.2))
            print(time.clock_gettime_ns(time.CLOCK_BOOTTIME), flush=True)
            await asyncio.sleep(random.uniform(0, 0.1))
    await asyncio.gather(*(one() for _ in range(int(sys.argv[3]))))

asyncio.run(take())
"""

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _most_in_a_second(times: list[int]) -> int:
    times = sorted(times)
    return max(sum(1 for later in times[at:] if later < first + SECOND) for at, first in enumerate(times))


def _start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


@contextmanager
def _holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _start(HOLD, path) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_several_processes_keep_to_it_together(tmp_path: Path) -> None:
    path = tmp_path / "rate" / "a"
    processes = [_start(TAKE, path, 10, 9) for _ in range(3)]
    times = [int(line) for process in processes for line in process.communicate(timeout=60)[0].splitlines()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(times) == 27
    assert _most_in_a_second(times) <= 10


async def have(rate: SharedRate) -> int:
    """A request that is answered at once; when it was."""
    async with rate.slot():
        return _now()


async def test_it_goes_on_when_a_process_dies_with_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "rate" / "a"
    with _holder(path) as holder:
        waiting = asyncio.create_task(have(SharedRate(path, 5)))
        await asyncio.sleep(0)
        assert not waiting.done()
        holder.send_signal(signal.SIGKILL)
        await waiting


async def test_a_lock_that_is_never_given_up_holds_no_one_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("blocks.outscale.rate._LOCK_TIME", 0.05)
    path = tmp_path / "rate" / "a"
    rate = SharedRate(path, 5)
    with _holder(path), caplog.at_level(logging.WARNING, "image_bakery"):
        times = [await have(rate) for _ in range(6)]
    assert _most_in_a_second(times) <= 5
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("place", ["file-in-the-way", "link"])
async def test_without_a_file_each_process_keeps_to_it_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    (tmp_path / "file-in-the-way").touch()
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "a").symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING, "image_bakery"):
        await have(SharedRate(tmp_path / place / "a", 5))
    assert "by itself" in caplog.text
    assert not (tmp_path / "elsewhere").exists()


async def test_a_broken_file_counts_as_a_full_second(tmp_path: Path) -> None:
    contents = [
        "\x00 no JSON",
        "[]",
        '{"boot": "x", "slots": "no"}',
        '{"boot": "BOOT", "slots": [[1, 2]]}',
        '{"boot": "BOOT", "slots": [["1-1", 1, 9000000000000000000]]}',
    ]
    paths = [tmp_path / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content.replace("BOOT", _boot()))
    before = _now()
    for had in await asyncio.gather(*(have(SharedRate(path, 5)) for path in paths)):
        assert had - before >= SECOND


async def test_slots_of_another_boot_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "rate" / "a"
    path.parent.mkdir()
    path.write_text(json.dumps({"boot": "another", "slots": [["1-1", _now() + 600 * SECOND, 0]] * 5}))
    await asyncio.wait_for(have(SharedRate(path, 5)), 30)


async def test_a_cancelled_wait_costs_nothing(tmp_path: Path) -> None:
    rate = SharedRate(tmp_path / "rate" / "a", 2)
    await have(rate)
    await have(rate)
    waiting = asyncio.create_task(have(rate))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(have(rate), 30)


async def test_a_request_on_its_way_holds_its_slot(tmp_path: Path) -> None:
    rate = SharedRate(tmp_path / "rate" / "a", 1)
    async with rate.slot():
        sent = _now()
        waiting = asyncio.create_task(have(rate))
        await asyncio.sleep(0.3)
        replied = _now()
    assert await waiting - replied >= SECOND
    async with rate.slot():
        sent = _now()
        # One whose reply is long in coming is taken to have arrived after half a second.
        assert await asyncio.wait_for(have(rate), 60) - sent >= 1.4 * SECOND


async def test_a_process_that_died_with_a_request_on_its_way_holds_no_one_up(tmp_path: Path) -> None:
    path = tmp_path / "rate" / "a"
    path.parent.mkdir()
    sent = _now()
    path.write_text(json.dumps({"boot": _boot(), "slots": [["1-1", sent, 0]]}))
    assert await asyncio.wait_for(have(SharedRate(path, 1)), 30) - sent >= SECOND


async def test_the_file_is_for_this_user_and_tells_no_key(tune: Tune, tmp_path: Path) -> None:
    tune(state_dir=tmp_path / "new" / "state", outscale_rate=7)
    rate = shared_rate("https://api.test/api/v1/", "AKIDEXAMPLE")
    assert rate is shared_rate("https://api.test/api/v1", "AKIDEXAMPLE")
    assert rate is not shared_rate("https://api.test/api/v1", "AKOTHER")
    await have(rate)
    (file,) = (tmp_path / "new" / "state" / "outscale-rate").iterdir()
    assert "AKIDEXAMPLE" not in f"{file} {file.read_text()}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.parent.parent.stat().st_mode) == 0o700
    descriptor = os.open(file, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


@pytest.mark.parametrize("rate", [0, 101])
def test_a_rate_that_cannot_be_kept_is_refused(tmp_path: Path, rate: int) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        SharedRate(tmp_path / "a", rate)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
