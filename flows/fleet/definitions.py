"""All definitions of a directory."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from blocks.errors import DefinitionError, Mistake
from flows.fleet.file import FleetDefinition, read_file
from flows.fleet.relations import mistakes_between
from flows.yaml_file import load_yaml, with_line

__all__ = ["FleetDefinition", "read_fleet"]

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def read_fleet(directory: Path) -> list[FleetDefinition]:
    """Read all definition files of a directory; its subdirectories hold other things.

    They may well be built on other hosts: what they name has to be here only where it lies beside them.

    Raises:
        DefinitionError: all mistakes of all files and between them, each with its file and line.
    """
    definitions: list[FleetDefinition] = []
    mistakes: list[Mistake] = []
    unread = set()
    for path in sorted(path for path in directory.iterdir() if path.suffix in (".yaml", ".yml")):
        if not _NAME.fullmatch(path.stem):
            rule = "must be named in lower-case letters, digits and hyphens: its name is the deployment's"
            mistakes.append(Mistake("file", rule, file=path.name))
        try:
            definitions += read_file(path, builds_here=False)
        except DefinitionError as error:
            unread.add(path.stem)
            mistakes += [replace(mistake, file=path.name) for mistake in error.mistakes]
    for definition, mistake in mistakes_between(definitions, unread):
        mistakes.append(located(definition, mistake))
    if mistakes:
        raise DefinitionError(mistakes, source=str(directory))
    return definitions


def located(definition: FleetDefinition, mistake: Mistake) -> Mistake:
    """A mistake with the file and the line of its definition."""
    node, _ = load_yaml(definition.file)
    return replace(with_line(mistake, node), file=definition.file.name)
