"""`python -m benchmarks.publish [RESULTS.json ...]`: put results into `docs/benchmarks.md` and draw its chart.

Without a file the newest of `benchmarks/results/` are taken. Of several files, which have to be of one machine, each
part is taken from the last that has it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import results
from benchmarks.chart import chart
from benchmarks.programs import ROOT
from benchmarks.report import report

PAGE = ROOT / "docs/benchmarks.md"
CHART = ROOT / "docs/benchmarks.svg"
_BEGIN, _END = "<!-- figures: written by `python -m benchmarks.publish` -->\n", "<!-- end of the figures -->\n"


def main(argv: list[str]) -> int:
    """Write page and chart."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.publish",
        description="Put results into docs/benchmarks.md and draw its chart. Of several files, which have to be of one "
        "machine, each part is taken from the last that has it.",
    )
    parser.add_argument(
        "results", metavar="RESULTS.json", type=Path, nargs="*", help="default: the newest of benchmarks/results"
    )
    paths = parser.parse_args(argv).results or [results.newest()]
    found = results.together([results.load(path) for path in paths])
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    after = rest.partition(_END)[2]
    PAGE.write_text(f"{before}{_BEGIN}\n{report(found)}\n{_END}{after}", encoding="utf-8")
    CHART.write_text(chart(found), encoding="utf-8")
    print(f"{' and '.join(map(str, paths))}: now in {PAGE} and {CHART}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
