"""A process that dies in the middle of a build. Told over standard input, as a build tells its reaper."""

from __future__ import annotations

import json
import sys
from uuid import UUID

from tasks import reaper_line
from tasks.mark import Lineage


def main() -> None:
    """Start the reaper, say its pid, then do as told until standard input ends."""
    told = json.loads(sys.stdin.readline())
    lineage = Lineage(UUID(told["run"]), told["attempt"])
    line = reaper_line.watch(reaper_line.Watch(lineage, told["ground"]))
    reaper = reaper_line._reaper
    assert reaper is not None
    print(reaper.pid, flush=True)
    for word in sys.stdin:
        match word.split():
            case ["keep"]:
                line = reaper_line.watch(reaper_line.Watch(lineage, told["ground"], keeps=True))
            case ["cleaning", "up"]:
                line.cleaning_up()
            case ["done"]:
                line.done()
            case ["take", "over"]:
                line.take_over(cut=False)
            case ["creating", resource]:
                line.creating(resource)
            case ["created", resource]:
                line.created(resource)
        print("told", flush=True)


if __name__ == "__main__":
    main()
