"""What was measured, as it is kept in `benchmarks/results/`. All times are seconds, all sizes bytes."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from pydantic import BaseModel, Field

from benchmarks.prefect_server import postgresql_program
from benchmarks.programs import ROOT

DIRECTORY = ROOT / "benchmarks/results"


class StepPair(BaseModel):
    """One step on both sides: medians over the rounds."""

    name: str
    ours: float
    floor: float


class Comparison(BaseModel):
    """Builds one at a time, in turn with their floor and with empty flows of as many tasks; one number a round."""

    part: str
    title: str
    form: str
    """How the build was run: `running process` or `command line`."""
    builds: int = 1
    """How many side by side."""
    ours: list[float]
    floor: list[float]
    prefect: list[float] = []
    """The empty flows. None where the floor's own figures are the point."""
    guest_ours: list[float] = []
    guest_floor: list[float] = []
    """The guest's own time, which varies and is taken out on both sides."""
    first: float
    """The first build, which is not counted: connections are made, the reaper starts."""
    cpu: list[float] = []
    """Processor time of the process that builds."""
    floor_starts: float = 0
    """What the floor's script spends on starting curl, other than while it waits: it stands in our favour."""
    calls_ours: dict[str, int]
    calls_floor: dict[str, int]
    waits: list[str]
    """Operations of which either side makes as many as it takes until something is through."""
    steps: list[StepPair]
    target: float | None = None
    """What our share may be at most."""
    wall_target: float | None = None
    """What the whole may take at most."""

    @property
    def beyond_floor(self) -> float:
        """What a build takes more than its floor; the guest's own time is taken out of both."""
        return _less(self.ours, self.guest_ours) - _less(self.floor, self.guest_floor)

    @property
    def prefect_share(self) -> float:
        """What as many empty tasks take."""
        return median(self.prefect) if self.prefect else 0.0

    @property
    def our_share(self) -> float:
        """What is left: our own cost."""
        return self.beyond_floor - self.prefect_share

    @property
    def other_calls(self) -> dict[str, int]:
        """How many requests of each operation we make more (or fewer) than the floor, waits left out."""
        names = (self.calls_ours.keys() | self.calls_floor.keys()) - set(self.waits)
        more = {name: self.calls_ours.get(name, 0) - self.calls_floor.get(name, 0) for name in sorted(names)}
        return {name: count for name, count in more.items() if count}


class Crowd(BaseModel):
    """Builds side by side; one number a round."""

    form: str
    """`running process`: all in one; `worker runs`: a process each."""
    database: str
    builds: int
    wall: list[float]
    empty: list[float] = []
    """Empty flows with the same tasks, each of which sleeps for as long as that step takes in a build alone."""
    cpu: dict[str, float]
    """Processor time for each build, by who used it."""
    cpu_empty: dict[str, float] = {}
    """The same for each empty flow."""
    peak_rss: dict[str, int]
    error: str = ""
    """Why there are no figures."""


class Reaction(BaseModel):
    """Builds that an event starts: seconds from the event, one number a round."""

    created: list[float] = []
    """Until the server's automation had made a run."""
    started: list[float] = []
    """Until a worker's process ran the flow."""
    first_step: list[float] = []


class Machine(BaseModel):
    """Where it was measured."""

    processor: str
    processors: int
    memory: int
    kernel: str
    system: str


class Results(BaseModel):
    """One run of the benchmark."""

    date: datetime
    seconds: float = 0
    """How long the benchmark took."""
    rounds: int
    load_before: float
    """The machine's load average over a minute before the first round: 0 when nothing else runs."""
    stolen: dict[str, float] = {}
    """By part, the share of the wanted processor time that the host gave to other machines while it was measured."""
    machine: Machine
    versions: dict[str, str]
    comparisons: list[Comparison] = Field(default_factory=list)
    crowds: list[Crowd] = Field(default_factory=list)
    reaction: Reaction | None = None
    skipped: dict[str, str] = Field(default_factory=dict)
    """Parts that were not measured, and why."""


def _less(values: list[float], guest: list[float]) -> float:
    return median(a - b for a, b in zip(values, guest, strict=True)) if guest else median(values)


def here(rounds: int) -> Results:
    """Empty results of this machine, now."""
    return Results(
        date=datetime.now(UTC).replace(microsecond=0),
        rounds=rounds,
        load_before=os.getloadavg()[0],
        machine=_machine(),
        versions=_versions(),
    )


def write(results: Results, path: Path | None = None) -> Path:
    """Keep results as JSON; by default in `benchmarks/results/`, named for their date."""
    path = path or DIRECTORY / f"{results.date:%Y-%m-%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(results.model_dump_json(indent=2, exclude_defaults=True) + "\n", encoding="utf-8")
    return path


def _machine() -> Machine:
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    return Machine(
        processor=model[1] if model else platform.machine(),
        processors=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        kernel=platform.release(),
        system=system,
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("prefect", "httpx", "paramiko", "pydantic", "sqlalchemy", "asyncpg"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    for name, argv in {
        "postgresql": [postgresql_program("postgres"), "--version"],
        "curl": ["curl", "--version"],
        "openssh": ["ssh", "-V"],
        "qemu": ["qemu-system-x86_64", "--version"],
    }.items():
        if number := re.search(r"\d+\.\S*\d", _first_line(argv)):
            found[name] = number[0]
    if commit := _first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]):
        found["image-bakery"] = commit
    return found


def _first_line(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def load(path: Path) -> Results:
    """Read results again."""
    return Results.model_validate_json(path.read_text(encoding="utf-8"))


def together(several: Sequence[Results]) -> Results:
    """One report of parts that were measured one after the other: each as the last that has it found it."""
    if len({(each.machine.model_dump_json(), each.rounds) for each in several}) > 1:
        sys.exit("these results are of different machines or numbers of rounds: they do not make one report")
    last = several[-1]
    parts = {comparison.part: each for each in several for comparison in each.comparisons}
    forms = {crowd.form: each for each in several for crowd in each.crowds}
    versions = {
        name: " and ".join(dict.fromkeys(each.versions[name] for each in several if name in each.versions))
        for name in last.versions
    }
    return last.model_copy(
        update={
            "load_before": max(each.load_before for each in several),
            "stolen": {part: share for each in several for part, share in each.stolen.items()},
            "versions": versions,
            "comparisons": [one for each in several for one in each.comparisons if parts[one.part] is each],
            "crowds": [one for each in several for one in each.crowds if forms[one.form] is each],
            "reaction": next((each.reaction for each in reversed(several) if each.reaction), None),
        }
    )


def newest() -> Path:
    """The newest results that are kept."""
    found = sorted(DIRECTORY.glob("*.json"))
    if not found:
        sys.exit(f"no results in {DIRECTORY}: run `make benchmark` first")
    return found[-1]
