"""The benchmark measures what it says: one small run of it, and what it makes of known figures."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.chart import chart
from benchmarks.programs import ROOT
from benchmarks.report import report
from benchmarks.results import Comparison, Crowd, Machine, Reaction, Results, StepPair, load, together
from benchmarks.usage import Processors, at_rest, measured, processes


@pytest.mark.timeout(300)
def test_one_round_measures_floor_ours_and_prefect_and_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert not os.environ.get("CI"), "cheap machines need root's rights"
        pytest.skip("cheap machines need root's rights")
    kept = tmp_path / "results.json"
    argv = [
        *(sys.executable, "-m", "benchmarks", "--rounds", "1", "--parts", "oxide", "--database", "sqlite"),
        *("--start", "0.1", "--stop", "0.1", "--boot", "0.1", "--guest", str(tiny), "--output", str(kept)),
    ]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    results = load(kept)
    assert results.versions["prefect"]
    (comparison,) = results.comparisons
    assert [len(side) for side in (comparison.ours, comparison.floor, comparison.prefect)] == [1, 1, 1]
    assert all(seconds > 0 for side in (comparison.ours, comparison.floor, comparison.prefect) for seconds in side)
    # A floor that asks for less, or for more, would be another build's.
    assert comparison.other_calls == {}
    assert comparison.calls_ours["instance_create"] == 1
    steps = {step.name: step for step in comparison.steps}
    assert {"launch instance", "connect", "provision: shell 1", "shut down", "tear down"} <= steps.keys()
    assert all(step.ours > 0 and step.floor > 0 for step in steps.values())
    assert "An Oxide image, running process" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json"]


def comparison(**more: object) -> Comparison:
    known = {
        "part": "oxide",
        "title": "An Oxide image",
        "form": "running process",
        "ours": [12.0, 11.0, 13.0],
        "floor": [10.0, 10.5, 11.0],
        "prefect": [1.0, 1.1, 1.2],
        "first": 14.0,
        "calls_ours": {"image_view": 3, "instance_view": 7},
        "calls_floor": {"image_view": 2, "instance_view": 40},
        "waits": ["instance_view"],
        "steps": [StepPair(name="connect", ours=3.5, floor=3.25)],
        "target": 0.3,
    }
    return Comparison.model_validate(known | more)


def results(**more: object) -> Results:
    machine = Machine(processor="a <processor>", processors=2, memory=2**30, kernel="6.1", system="Debian")
    known = {
        "date": datetime(2026, 1, 2, tzinfo=UTC),
        "rounds": 3,
        "load_before": 0.1,
        "machine": machine,
        "versions": {"python": "3.11"},
    }
    return Results.model_validate(known | more)


def test_our_share_is_what_floor_and_prefect_leave() -> None:
    compared = comparison()
    assert compared.beyond_floor == pytest.approx(1.5)
    assert compared.our_share == pytest.approx(0.4)
    # The guest's own time is taken out round by round, and not median by median.
    with_guest = comparison(guest_ours=[5.0, 4.0, 6.5], guest_floor=[4.0, 4.0, 5.0])
    assert with_guest.beyond_floor == pytest.approx(7.0 - 6.0)


def test_calls_that_the_floor_does_not_make_are_told() -> None:
    assert comparison().other_calls == {"image_view": 1}
    assert "not the floor's calls but image_view +1" in report(results(comparisons=[comparison()]))


@pytest.mark.parametrize(("own", "verdict"), [(0.1, "own ≤ 0.3 met"), (0.5, "own ≤ 0.3 missed")])
def test_goals_are_told_met_or_missed(own: float, verdict: str) -> None:
    compared = comparison(ours=[11.0 + own], floor=[10.0], prefect=[1.0])
    assert verdict in report(results(comparisons=[compared]))


def test_a_build_more_is_compared_with_an_empty_flow_more() -> None:
    def crowd(builds: int, wall: float, empty: float) -> Crowd:
        return Crowd(
            form="running process",
            database="postgresql",
            builds=builds,
            wall=[wall],
            empty=[empty],
            cpu={"builds": 0.5, "region": 0.25},
            cpu_empty={"builds": 0.2, "region": 0.0},
            peak_rss={"builds": 300_000_000},
        )

    said = report(results(crowds=[crowd(1, 10, 9), crowd(20, 16, 13)]))
    assert "a build more takes 0.30 s, an empty flow more 0.20 s; the difference is 0.10 s (goal ≤ 0.15 met)" in said
    assert "the memory of 20 builds 300 MB (goal < 400 met)" in said
    assert "processor time of one of 20 beyond an empty flow's: builds 0.30 s, region 0.25 s" in said
    assert "0.50 (0.20)" in said


def test_parts_that_were_measured_one_after_the_other_make_one_report() -> None:
    oxide, newer, qemu = comparison(), comparison(ours=[9.0]), comparison(part="qemu")
    first = results(comparisons=[oxide, qemu], versions={"python": "3.11"}, stolen={"oxide": 0.251})
    made = together([first, results(comparisons=[newer], versions={"python": "3.12"})])
    assert made.comparisons == [qemu, newer]
    assert made.versions == {"python": "3.11 and 3.12"}
    assert "other machines of the host had 25% in `oxide`" in report(made)
    reaction = Reaction(created=[0.5, 1.5, 1.0], started=[12.0, 9.0, 16.0], first_step=[13.0, 10.0, 17.0])
    made = together([results(reaction=reaction), first])
    assert "after 12.0 s (9.0 to 16.0) a worker's process runs the flow, and after 13.0 s the first" in report(made)
    with pytest.raises(SystemExit, match="different machines"):
        together([first, results(rounds=1)])


def test_the_chart_is_svg_whose_bars_are_as_long_as_the_builds() -> None:
    command = comparison(part="command", form="command line", ours=[24.0], floor=[10.0], prefect=[6.0])
    root = ElementTree.fromstring(chart(results(comparisons=[comparison(), command])))
    drawn = [
        float(bar.attrib["width"])
        for bar in root.iter("{http://www.w3.org/2000/svg}rect")
        if bar.find("{http://www.w3.org/2000/svg}title") is not None
    ]
    first, second = sum(drawn[:3]), sum(drawn[3:6])
    assert second == pytest.approx(2 * first, rel=0.01)


def test_what_the_host_gave_to_others_is_a_share_of_what_was_wanted() -> None:
    assert Processors(busy=40, stolen=11).stolen_since(Processors(busy=10, stolen=1)) == pytest.approx(0.25)
    now = Processors.now()
    assert now.busy > 0
    assert now.stolen_since(now) == 0


async def test_the_usage_of_a_process_tree_counts_what_it_started() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]]); input()"
    burn = "import time\nheld = b'x' * 50_000_000\nwhile time.process_time() < 3: pass"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, burn, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with measured({"burner": child.pid}) as usage:
            while not _waited_for_children(child.pid):
                await asyncio.sleep(0.1)
    finally:
        child.kill()
        await child.wait()
    assert 2.9 < usage.cpu["burner"] < 10
    assert usage.peak_rss["burner"] > 50_000_000


async def test_a_measurement_begins_when_the_last_ones_work_is_done() -> None:
    burn = "import time\nwhile time.process_time() < 2: pass\ninput()"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", burn, stdin=asyncio.subprocess.PIPE)
    try:
        await at_rest({"burner": child.pid})
        assert processes()[child.pid].cpu >= 1.9
    finally:
        child.kill()
        await child.wait()


def _waited_for_children(pid: int) -> bool:
    fields = re.sub(r"^.*\)", "", Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")).split()
    return int(fields[13]) + int(fields[14]) > 0
