"""Cuts the API's OpenAPI document down to what the region serves: `python -m tests.emulators.oxide.excerpt DOCUMENT`.

The excerpt lies beside this file, so that every test run checks replies against it. It holds names and types, no prose.
The document is published by Oxide Computer Company under the Mozilla Public License 2.0, and so is the excerpt.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from emulators.oxide.routes import OPERATIONS

EXCERPT = Path(__file__).with_name("nexus-2026060800.json")
_PROSE = {"description", "title", "summary", "example", "tags", "x-rust-type"}
_SERVED = {operation.id for operation in OPERATIONS} | {"instance_serial_console_stream"}


def excerpt(document: dict[str, Any]) -> dict[str, Any]:
    """The operations that the region serves, and all that their schemas refer to."""
    paths = {
        path: {
            method: without_prose(operation)
            for method, operation in methods.items()
            if operation.get("operationId") in _SERVED
        }
        for path, methods in document["paths"].items()
    }
    components: dict[str, dict[str, Any]] = {}
    waiting = references(paths)
    while waiting:
        _, _, kind, name = waiting.pop().split("/")
        if name not in components.setdefault(kind, {}):
            components[kind][name] = without_prose(document["components"][kind][name])
            waiting |= references(components[kind][name])
    return {
        "info": {"version": document["info"]["version"], "license": "MPL-2.0, Oxide Computer Company; an excerpt"},
        "paths": {path: methods for path, methods in sorted(paths.items()) if methods},
        "components": {kind: dict(sorted(found.items())) for kind, found in sorted(components.items())},
    }


def references(node: Any) -> set[str]:
    """Every `$ref` below a node."""
    if isinstance(node, list):
        return set().union(*map(references, node))
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return own.union(*map(references, node.values()))


def without_prose(node: Any, *, names: bool = False) -> Any:
    """The same without words for people; keys of `properties` are names, whatever they are."""
    if isinstance(node, list):
        return [without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: without_prose(value, names=key == "properties" and not names)
        for key, value in node.items()
        if names or key not in _PROSE
    }


def text(found: dict[str, Any]) -> str:
    """An excerpt with one operation or schema a line."""
    lines = ["{", f' "info": {json.dumps(found["info"])},']
    for part, rooms in (("paths", found["paths"]), ("components", found["components"])):
        lines.append(f' "{part}": {{')
        for number, (room, entries) in enumerate(rooms.items()):
            body = ",\n".join(f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
            lines.append(f"  {json.dumps(room)}: {{\n{body}\n  }}{',' if number < len(rooms) - 1 else ''}")
        lines.append(" }" + ("," if part == "paths" else ""))
    return "\n".join([*lines, "}"]) + "\n"


if __name__ == "__main__":
    EXCERPT.write_text(text(excerpt(json.loads(Path(sys.argv[1]).read_text()))))
