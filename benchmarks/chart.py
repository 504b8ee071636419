"""The README's chart: for each build its floor, Prefect's share and ours, beside what Packer took. SVG as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from benchmarks.results import Comparison, Results

_WIDTH, _LEFT, _RIGHT, _ROW, _BAR = 760, 230, 70, 34, 18
_COLOURS = {"floor": "#9aa5b1", "Prefect": "#5b8def", "own": "#e8833a", "Packer": "#d5d9de"}
_LEGEND = {
    "floor": "the cloud, the guest, the provisioners (curl and ssh alone)",
    "Prefect": "Prefect (as many empty tasks)",
    "own": "Image Bakery",
    "Packer": "Packer 1.16, measured apart",
}


@dataclass(frozen=True)
class Bar:
    """One bar: its parts in seconds, from the left."""

    label: str
    parts: tuple[tuple[str, float], ...]
    note: str = ""


def bars(results: Results) -> list[Bar]:
    """What the chart shows of these results."""
    found = []
    for comparison in results.comparisons:
        match comparison.part, comparison.form:
            case "oxide", _:
                found.append(_bar("Oxide image", comparison))
            case "command", _:
                found.append(_bar("the same, by command line", comparison))
            case "qemu", _:
                found.append(_bar(comparison.title.replace("An Oxide", "Oxide"), comparison))
                found.append(Bar("Packer, plugin 0.9", (("Packer", 20.8),), "18.6 to 25.0 s"))
            case "outscale", _ if comparison.builds == 1 and "100 requests" in comparison.title:
                found += _outscale(comparison)
    return found


def _outscale(comparison: Comparison) -> list[Bar]:
    delays = comparison.title.split(", ", 1)[1].rpartition(",")[0]
    if delays == "no delay":
        return [_bar("OMI, no cloud delay", comparison), Bar("Packer, plugin 1.6.1", (("Packer", 3.3),))]
    if delays == "2, 3, 2, 7, 5 s":
        return [_bar("OMI, 19 s of cloud delays", comparison), Bar("Packer, plugin 1.6.1", (("Packer", 25.8),))]
    return []


def _bar(label: str, comparison: Comparison) -> Bar:
    # Noise can make a share negative on a machine that is not quiet: then there is nothing to draw.
    floor = median(comparison.ours) - max(comparison.beyond_floor, 0)
    parts = (
        ("floor", floor),
        ("Prefect", max(min(comparison.prefect_share, comparison.beyond_floor), 0)),
        ("own", max(comparison.our_share, 0)),
    )
    return Bar(label, parts)


def chart(results: Results) -> str:
    """The SVG's text."""
    rows = bars(results)
    height = 40 + _ROW * len(rows) + 22 * len(_LEGEND) + 20
    longest = max((sum(seconds for _, seconds in row.parts) for row in rows), default=1.0)
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(_summary(rows))}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="24" font-weight="bold">One build, in seconds ({results.date:%Y-%m-%d})</text>',
    ]
    y = 40
    for row in rows:
        lines += _row(row, y, scale)
        y += _ROW
    y += 8
    for name, meaning in _LEGEND.items():
        lines.append(f'<rect x="16" y="{y}" width="14" height="14" fill="{_COLOURS[name]}"/>')
        lines.append(f'<text x="38" y="{y + 12}">{escape(meaning)}</text>')
        y += 22
    return "\n".join([*lines, "</svg>"]) + "\n"


def _row(row: Bar, y: int, scale: float) -> list[str]:
    middle = y + _BAR - 4
    lines = [f'<text x="{_LEFT - 10}" y="{middle}" text-anchor="end">{escape(row.label)}</text>']
    x = float(_LEFT)
    for name, seconds in row.parts:
        width = seconds * scale
        lines.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{_COLOURS[name]}">'
            f"<title>{name}: {seconds:.2f} s</title></rect>"
        )
        x += width
    note = row.note or f"{sum(seconds for _, seconds in row.parts):.1f} s"
    # A text that would leave the picture stands in its bar.
    inside = x + 8 * len(note) > _WIDTH
    lines.append(
        f'<text x="{x - 6 if inside else x + 6:.1f}" y="{middle}" text-anchor="{"end" if inside else "start"}">'
        f"{escape(note)}</text>"
    )
    return lines


def _summary(rows: Sequence[Bar]) -> str:
    return "; ".join(f"{row.label}: {row.note or f'{sum(seconds for _, seconds in row.parts):.1f} s'}" for row in rows)
