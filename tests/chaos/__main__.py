"""`python -m tests.chaos`: kill and fail builds, and count what is left. `make chaos` calls it, as root."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from tests.chaos.matrix import LANES
from tests.chaos.points import Outcome
from tests.chaos.run import Run
from tests.end_to_end.world import ROOT


def main(argv: list[str]) -> int:
    """Run chaos; the exit code is 1 when something leaked, was touched, was seen or was wrong."""
    arguments = _parser().parse_args(argv)
    if os.geteuid() != 0:
        print("chaos needs root: namespaces, cheap machines and block devices do", file=sys.stderr)
        return 2
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 31)
    signal.signal(signal.SIGTERM, _interrupt)
    run = Run(
        arguments.lanes.split(","),
        arguments.guest.resolve(),
        seed=seed,
        minutes=arguments.minutes,
        only=arguments.only,
        tell=_tell,
    )
    if arguments.list:
        print("\n".join(sorted(point.id for point in run.points())))
        return 0
    _say(f"seed {seed}, {arguments.minutes:g} minutes")
    done = run.go()
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(done.model_dump_json(indent=1) + "\n", encoding="utf-8")
    print(done.table())
    return 0 if done.is_good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=25, help="points are drawn for so long")
    parser.add_argument("--seed", type=int, help="of the order in which points are drawn")
    parser.add_argument(
        "--only",
        metavar="POINT",
        action="append",
        default=[],
        help="only these points: an id, or a pattern such as '*/fault/*'; repeatable",
    )
    parser.add_argument("--lanes", default=",".join(LANES), help=f"of {', '.join(LANES)}, with commas between")
    parser.add_argument("--guest", type=Path, default=ROOT / "var/guests/tiny", help="the tiny guest's directory")
    parser.add_argument("--json", type=Path, help="also write the report as JSON")
    parser.add_argument("--list", action="store_true", help="print the points' ids, and run none")
    return parser


def _tell(outcome: Outcome) -> None:
    clean = "" if outcome.seconds_until_clean is None else f", clean after {outcome.seconds_until_clean:.1f} s"
    _say(f"{outcome.point}: {outcome.ended}{clean} ({outcome.seconds:.0f} s)")
    if outcome.ended == "not reached":
        _say(f"  {outcome.what}")
    for complaint in outcome.complaints:
        _say(f"  {complaint}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
