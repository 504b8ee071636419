"""`python -m benchmarks`: measure, print, and keep the results. `make benchmark` calls it."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from benchmarks import results
from benchmarks.parts import NEED_ROOT, PARTS, Latencies, Plan
from benchmarks.programs import BenchmarkFailed
from benchmarks.report import report
from benchmarks.usage import Processors


def main(argv: list[str]) -> int:
    """Run the benchmark; the exit code is 1 if a part failed."""
    arguments = _parser().parse_args(argv)
    parts = [part for part in arguments.parts.split(",") if part]
    if unknown := [part for part in parts if part not in PARTS]:
        print(f"unknown: {', '.join(unknown)}. There are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    directory = Path(tempfile.mkdtemp(prefix="bakery-benchmark-"))
    plan = Plan(
        directory=directory,
        guest=arguments.guest.resolve(),
        rounds=arguments.rounds,
        results=results.here(arguments.rounds),
        say=_say,
        latencies=Latencies(arguments.start, arguments.stop, arguments.boot),
        database=arguments.database,
        builds=tuple(int(count) for count in arguments.builds.split(",")),
    )
    started = time.monotonic()
    try:
        asyncio.run(_bounded(plan, parts, arguments.time_limit))
    except (KeyboardInterrupt, asyncio.CancelledError):
        shutil.rmtree(directory, ignore_errors=True)
        print("Interrupted; nothing is kept.", file=sys.stderr)
        return 130
    plan.results.seconds = time.monotonic() - started
    failed = any(why.startswith("failed") for why in plan.results.skipped.values())
    if failed:
        print(f"The logs are in {directory}.", file=sys.stderr)
    else:
        shutil.rmtree(directory, ignore_errors=True)
    print(report(plan.results))
    if plan.results.comparisons or plan.results.crowds or plan.results.reaction:
        path = results.write(plan.results, arguments.output)
        print(f"Kept as {path}. `python -m benchmarks.publish {path}` puts it into docs/benchmarks.md and its chart.")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each thing is measured")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}, with commas between")
    parser.add_argument("--builds", default="1,5,20", help="how many at once, with commas between")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    defaults = Latencies()
    parser.add_argument("--start", type=float, default=defaults.start, metavar="S", help="from create to running")
    parser.add_argument("--stop", type=float, default=defaults.stop, metavar="S", help="from stop to stopped")
    parser.add_argument("--boot", type=float, default=defaults.boot, metavar="S", help="a cheap machine's boot")
    parser.add_argument("--guest", type=Path, default=Path("var/guests/tiny"), help="the tiny guest's directory")
    parser.add_argument("--output", type=Path, help="where the results go (benchmarks/results/DATE.json)")
    parser.add_argument("--time-limit", type=float, default=7200, metavar="S", help="for all of it")
    return parser


async def _bounded(plan: Plan, parts: list[str], limit: float) -> None:
    current = asyncio.current_task()
    assert current is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    try:
        async with asyncio.timeout(limit):
            for part in parts:
                await _measure(plan, part)
    except TimeoutError:
        for part in parts:
            plan.results.skipped.setdefault(part, f"failed: not through within {limit:g} s")


async def _measure(plan: Plan, part: str) -> None:
    if part in NEED_ROOT and os.geteuid() != 0:
        plan.results.skipped[part] = "needs root: cheap machines and block devices do"
        plan.say(f"Left out: {part} {plan.results.skipped[part]}")
        return
    before = Processors.now()
    try:
        await PARTS[part](plan)
        plan.results.stolen[part] = Processors.now().stolen_since(before)
    except Exception as error:
        # One part that fails does not take the others' figures with it.
        causes = list(_causes(error))
        if not all(isinstance(cause, BenchmarkFailed) for cause in causes):
            traceback.print_exception(error)
        why = "; ".join(str(cause) or type(cause).__name__ for cause in causes)
        plan.results.skipped[part] = f"failed: {why}"
        plan.say(f"FAILED: {part}: {why}")


def _causes(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    else:
        yield error


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
