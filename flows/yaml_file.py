"""Definition files as YAML, whose options know their lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from blocks.errors import DefinitionError, Mistake

OptionPath = tuple[str | int, ...]
"""Where an option stands: `("provisioners", 1, "inline")`."""


def load_yaml(path: Path) -> tuple[yaml.Node | None, dict[str, Any]]:
    """Read a YAML mapping: its nodes, which know their lines, and its data.

    Raises:
        DefinitionError: it is no YAML mapping, or holds an option twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise DefinitionError([Mistake("file", f"must be readable: {why}")], source=str(path)) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise DefinitionError(
            [Mistake("file", f"must be YAML: {error.problem}", line=line)], source=str(path)
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # a control character; a date that is none
        raise DefinitionError(
            [Mistake("file", f"must be YAML: {str(error).splitlines()[0]}")], source=str(path)
        ) from None
    if not isinstance(data, dict):
        raise DefinitionError([Mistake("file", "must be a YAML mapping of options")], source=str(path))
    if twice := list(_repeated(node)):
        raise DefinitionError(twice, source=str(path))
    return node, data


def changed(changes: Sequence[str]) -> dict[str, Any]:
    """Options by name, each of an `OPTION=VALUE` with the value in YAML.

    Raises:
        DefinitionError: one is no such thing.
    """
    values: dict[str, Any] = {}
    for setting in changes:
        option, equals, value = setting.partition("=")
        try:
            values[option.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals:
            raise DefinitionError([Mistake(option, "must be OPTION=VALUE, the value as YAML")], source="--set")
    return values


def with_line(mistake: Mistake, node: yaml.Node | None) -> Mistake:
    """A mistake with the line of its option, or of the nearest thing around that is in the file."""
    parts: list[str | int] = []
    for part in mistake.option.replace("]", "").replace("[", ".").split("."):
        parts.append(int(part) if part.isdigit() else part)
    return replace(mistake, line=line_of(tuple(parts), node))


def option_path(parts: Sequence[str | int]) -> str:
    """The path of an option, such as `provisioners[1].inline`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


def option_root(option: str) -> str:
    """The first part of an option's path: `provisioners` of `provisioners[1].inline`."""
    return re.split(r"[.\[]", option)[0]


def line_of(where: OptionPath, node: yaml.Node | None) -> int | None:
    """The line of an option, or of the nearest thing around it that is in the file."""
    if node is None:
        return None
    line = node.start_mark.line
    for part in where:
        inner = next((value for key, value in _children(node) if key == part), None)
        if inner is None:
            break
        node, line = inner
    return line + 1


def _repeated(node: yaml.Node | None, path: OptionPath = ()) -> Iterator[Mistake]:
    """Options that stand in the file twice: YAML itself would take the last and say nothing."""
    if node is None:
        return
    lines: dict[str | int, int] = {}
    for key, (value, line) in _children(node):
        if key in lines:
            yield Mistake(option_path((*path, key)), f"stands here twice: also on line {lines[key]}", line=line + 1)
        lines.setdefault(key, line + 1)
        yield from _repeated(value, (*path, key))


def _children(node: yaml.Node) -> Iterator[tuple[str | int, tuple[yaml.Node, int]]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), (value, key.start_mark.line)
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            yield place, (value, value.start_mark.line)
