"""What exists in a region that serves, for a person to read."""

from __future__ import annotations

from typing import Any

import httpx

from emulators.region.home import Home, RegionError

_COLUMNS = ("name", "state", "project", "account", "id", "where", "description")


def inventory(home: Home) -> dict[str, Any]:
    """Ask the region that serves from a state directory what exists.

    Raises:
        RegionError: none serves from there.
    """
    ready = home.ready()
    if ready is None:
        raise RegionError(f"no region serves from {home.directory}: start it with `up`")
    with httpx.Client(trust_env=False, timeout=60) as client:
        reply = client.get(f"{ready['control']}/inventory").raise_for_status()
    loaded: dict[str, Any] = reply.json()
    return loaded


def table(found: dict[str, Any]) -> str:
    """An inventory as text, one table a kind."""
    lines = [f"{found['region']} region on {found['machines']} machines"]
    for kind, entries in found["resources"].items():
        if not entries:
            continue
        rows = [[_cell(entry, column) for column in _COLUMNS] for entry in entries]
        shown = [n for n in range(len(_COLUMNS)) if any(row[n] for row in rows)]
        header = [column.upper() for column in _COLUMNS]
        widths = [max(len(row[n]) for row in [header, *rows]) for n in shown]
        lines += ["", f"{kind.replace('_', ' ')} ({len(rows)})"]
        for row in [header, *rows]:
            cells = (row[n].ljust(width) for n, width in zip(shown, widths, strict=True))
            lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _cell(entry: dict[str, Any], column: str) -> str:
    value = entry.get(column)
    if column == "where":
        value = entry.get("address") or entry.get("ip") or entry.get("path")
    return "" if value is None else str(value)
