"""Results as text: markdown whose tables also line up on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.results import Comparison, Crowd, Reaction, Results

_EXTRA_PER_BUILD = 0.15
_MEMORY = 400e6


def report(results: Results) -> str:
    """All results."""
    parts = [_machine(results)]
    if results.comparisons:
        parts += ["### One build against its floor", _comparisons(results.comparisons)]
        parts += [_calls(comparison) for comparison in results.comparisons if comparison.other_calls]
    if results.crowds:
        parts += ["### Builds side by side", _crowds(results.crowds)]
        parts += [
            line for line in (_marginal(results.crowds, "postgresql"), _marginal(results.crowds, "sqlite")) if line
        ]
    if results.reaction is not None:
        parts += ["### From an event to a build", _reaction(results.reaction)]
    if three := _three(results.comparisons):
        parts.append(three)
    if results.comparisons:
        parts.append("### Where the time goes")
        parts += [_steps(comparison) for comparison in _typical(results.comparisons)]
    parts += [f"Not measured: {part}, {why}." for part, why in results.skipped.items()]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table. All but the first column are right-aligned."""
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(w) if place == 0 else cell.rjust(w)
            for place, (cell, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (width + 1)}:|" for width in widths[1:])
    return "\n".join([line(head), rule, *(line(row) for row in rows)])


def _machine(results: Results) -> str:
    machine = results.machine
    versions = ", ".join(f"{name} {text}" for name, text in results.versions.items())
    taken = ", ".join(f"{share:.0%} in `{part}`" for part, share in results.stolen.items() if share >= 0.01)
    stolen = f" Of the processor time that was wanted, other machines of the host had {taken}." if taken else ""
    return (
        f"{results.date:%Y-%m-%d %H:%M} UTC, {results.rounds} rounds, medians, in seconds. {machine.processors} × "
        f"{machine.processor}, {machine.memory / 2**30:.0f} GiB, {machine.system}, Linux {machine.kernel}; load "
        f"average {results.load_before:.1f} before. {versions}.{stolen}"
    )


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    head = ("build", "ours", "floor", "guest", "beyond", "Prefect", "own", "goal", "spread", "CPU", "calls", "curl")
    rows = [
        (
            f"{comparison.title}, {comparison.form}",
            _seconds(comparison.ours),
            _seconds(comparison.floor),
            f"{median(comparison.guest_ours):.2f}, {median(comparison.guest_floor):.2f}"
            if comparison.guest_ours
            else "",
            f"{comparison.beyond_floor:.2f}",
            _seconds(comparison.prefect),
            f"{comparison.our_share:.2f}",
            _goal(comparison),
            f"±{(max(comparison.ours) - min(comparison.ours)) / 2:.2f}",
            _seconds(comparison.cpu) if any(comparison.cpu) else "",
            f"{_total(comparison, ours=True)}, {_total(comparison, ours=False)}",
            f"{comparison.floor_starts:.2f}",
        )
        for comparison in comparisons
    ]
    return (
        f"{table(head, rows)}\n\n"
        "`beyond` is ours less the floor, with the `guest`'s own time (ours, floor) taken out of both. Of it `Prefect` "
        "is what a flow with as many empty tasks takes in the same process and run, and `own` is the rest. `spread` is "
        "half the range of ours. `CPU` is the building process's own. `calls` are API requests of a build, ours and "
        "the floor's, waits included. `curl` is what the floor spends on starting curl, other than while it waits: it "
        "stands in our favour."
    )


def _total(comparison: Comparison, *, ours: bool) -> str:
    calls = comparison.calls_ours if ours else comparison.calls_floor
    return f"{sum(calls.values()) / comparison.builds:.0f}"


def _goal(comparison: Comparison) -> str:
    if comparison.target is not None:
        return f"own ≤ {comparison.target:g}{_missed(comparison.our_share > comparison.target)}"
    if comparison.wall_target is not None:
        return f"ours ≤ {comparison.wall_target:g}{_missed(median(comparison.ours) > comparison.wall_target)}"
    return ""


def _missed(missed: bool) -> str:
    return " missed" if missed else " met"


def _calls(comparison: Comparison) -> str:
    more = ", ".join(f"{name} {count:+d}" for name, count in comparison.other_calls.items())
    return f"{comparison.title}, {comparison.form}: not the floor's calls but {more}."


def _crowds(crowds: Sequence[Crowd]) -> str:
    used = list(dict.fromkeys(name for crowd in crowds for name in crowd.cpu))
    head = (
        "builds at once",
        "wall",
        "same sleeps",
        *(f"CPU {name}" for name in used),
        *(f"MB {name}" for name in used),
    )
    rows = []
    for crowd in crowds:
        name = f"{crowd.builds}, {crowd.form}, {crowd.database}"
        rows.append(
            (
                f"{name}: {crowd.error}" if crowd.error else name,
                _seconds(crowd.wall),
                _seconds(crowd.empty),
                *(_processor(crowd, each) for each in used),
                *(f"{crowd.peak_rss[each] / 1e6:.0f}" if each in crowd.peak_rss else "" for each in used),
            )
        )
    return (
        f"{table(head, rows)}\n\n"
        "Each crowd begins when the last one's work is done, the server's, too. "
        "`same sleeps`: empty flows with as many tasks, each of which sleeps for as long as that step takes in a build "
        "alone. `CPU` is processor time for each build, in brackets for each empty flow. `MB` is the "
        "highest resident memory of the whole process tree, pages that processes share counted in each."
    )


def _processor(crowd: Crowd, name: str) -> str:
    if name not in crowd.cpu:
        return ""
    return f"{crowd.cpu[name]:.2f}" + (f" ({crowd.cpu_empty[name]:.2f})" if name in crowd.cpu_empty else "")


def _marginal(crowds: Sequence[Crowd], database: str) -> str:
    found = {
        crowd.builds: crowd
        for crowd in crowds
        if crowd.form == "running process" and crowd.database == database and crowd.wall and crowd.empty
    }
    if len(found) < 2:
        return ""
    least, most = found[min(found)], found[max(found)]
    ours = (median(most.wall) - median(least.wall)) / most.builds
    empty = (median(most.empty) - median(least.empty)) / most.builds
    memory = most.peak_rss["builds"]
    text = (
        f"{database}: a build more takes {ours:.2f} s, an empty flow more {empty:.2f} s; the difference is "
        f"{ours - empty:.2f} s"
    )
    if database == "postgresql":
        text += f" (goal ≤ {_EXTRA_PER_BUILD}{_missed(ours - empty > _EXTRA_PER_BUILD)}), "
        text += f"the memory of {most.builds} builds {memory / 1e6:.0f} MB (goal < 400{_missed(memory >= _MEMORY)})"
    if most.cpu_empty:
        more = {name: most.cpu[name] - most.cpu_empty.get(name, 0.0) for name in most.cpu}
        shares = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in more.items())
        text += f"; processor time of one of {most.builds} beyond an empty flow's: {shares} (the region has the guests)"
    return f"{text}."


def _reaction(reaction: Reaction) -> str:
    return (
        f"{median(reaction.created):.1f} s after an event the server's automation has made a run, after "
        f"{median(reaction.started):.1f} s ({min(reaction.started):.1f} to {max(reaction.started):.1f}) a worker's "
        f"process runs the flow, and after {median(reaction.first_step):.1f} s the first step begins. The worker looks "
        "for runs every ten seconds, as Prefect has it by default."
    )


def _three(comparisons: Sequence[Comparison]) -> str:
    lines = []
    several = [comparison for comparison in comparisons if comparison.builds > 1]
    for crowd in several:
        alone = next(
            (
                one
                for one in comparisons
                if one.builds == 1 and one.title.partition(",")[2] == crowd.title.partition(",")[2]
            ),
            None,
        )
        if alone is not None:
            ratio = median(crowd.ours) / median(alone.ours)
            floor = median(crowd.floor) / median(alone.floor)
            goal = f" (goal ≤ 1.3{_missed(ratio > 1.3)})" if "100 requests" in crowd.title else ""
            lines.append(f"- {crowd.title}: {ratio:.2f} times one{goal}; the floor's {floor:.2f} times.")
    return "\n".join(lines)


def _typical(comparisons: Sequence[Comparison]) -> list[Comparison]:
    return [
        comparison
        for comparison in comparisons
        if comparison.part in ("oxide", "qemu") or (comparison.part == "outscale" and comparison.builds == 1)
        if "5 requests" not in comparison.title
    ]


def _steps(comparison: Comparison) -> str:
    rows = [
        (step.name, f"{step.ours:.3f}", f"{step.floor:.3f}", f"{step.ours - step.floor:+.3f}")
        for step in comparison.steps
    ]
    inside = sum(step.ours for step in comparison.steps)
    around = median(comparison.ours) - inside
    floor = sum(step.floor for step in comparison.steps)
    rows.append(("between the steps", f"{around:.3f}", f"{median(comparison.floor) - floor:.3f}", ""))
    return f"{comparison.title}, {comparison.form}:\n\n{table(('step', 'ours', 'floor', 'difference'), rows)}"


def _seconds(values: Sequence[float]) -> str:
    return f"{median(values):.2f}" if values else ""
