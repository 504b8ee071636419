"""Programs around a build, which end with the benchmark in whatever way that ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")

_KILL_AFTER = 60


class BenchmarkFailed(Exception):
    """Something around the builds, or a build, did not work. Its text says what, and where its output is."""


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what would change how Prefect, builds or clouds behave, and with `more`."""
    prefixes = ("PREFECT_", "IMAGE_BAKERY_", "OXIDE_", "OSC_", "OUTSCALE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**inherited, "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1", **more}


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def program(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str],
    end: signal.Signals = signal.SIGTERM,
    user: Sequence[str] = (),
    piped: bool = False,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program in a session of its own; at the end it is ended, and killed if it does not heed that.

    Args:
        argv: The program.
        log: Where its output goes.
        env: Its environment.
        end: The signal that asks it to end. The kernel sends it, too, when the benchmark itself is gone.
        user: Options of setpriv(1) that choose another user.
        piped: Whether its standard input and output are pipes, and only its errors go to the log.
    """
    with log.open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            *("setpriv", *user, "--pdeathsig", end.name.removeprefix("SIG"), "--", *argv),
            stdin=asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if piped else output,
            stderr=output,
            env=dict(env),
            cwd=ROOT,
            start_new_session=True,
            limit=2**24,
        )
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            child.send_signal(end)
        try:
            async with asyncio.timeout(_KILL_AFTER):
                await child.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()


async def finished(argv: Sequence[str], *, log: Path, env: Mapping[str, str], timeout: float) -> bytes:
    """Run a program to its end, and return what it wrote to its standard output.

    Raises:
        BenchmarkFailed: it ended with another exit code than 0, or not within `timeout` seconds.
    """
    async with program(argv, log=log, env=env, piped=True) as child:
        try:
            async with asyncio.timeout(timeout):
                said, _ = await child.communicate()
        except TimeoutError:
            raise BenchmarkFailed(f"{argv[0]} was not through after {timeout:g} s: see {log}") from None
    if child.returncode != 0:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BenchmarkFailed(f"{' '.join(argv)}: exit code {child.returncode}. The end of {log}:\n{end}")
    return said


async def eventually(look: Callable[[], Awaitable[T | None]], timeout: float, what: str) -> T:
    """What a look finds, as soon as it finds something.

    Raises:
        BenchmarkFailed: not within `timeout` seconds.
    """
    end = asyncio.get_running_loop().time() + timeout
    while (found := await look()) is None:
        if asyncio.get_running_loop().time() > end:
            raise BenchmarkFailed(f"not within {timeout:g} s: {what}")
        await asyncio.sleep(0.05)
    return found
