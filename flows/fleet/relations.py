"""Definitions of a fleet beside each other: names, parents, queues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from graphlib import CycleError, TopologicalSorter

from blocks.errors import Mistake
from flows.fleet.file import FleetDefinition

Found = tuple[FleetDefinition, Mistake]


def mistakes_between(definitions: Sequence[FleetDefinition], unread: Set[str]) -> Iterator[Found]:
    """What is wrong with definitions together, each mistake with the definition that has it.

    Args:
        definitions: All that could be read.
        unread: The names of files that could not: what they would have been is not known.
    """
    yield from _same_names(definitions)
    yield from _parents(definitions, unread)
    yield from _cycles(definitions)
    yield from _queues(definitions)


def _same_names(definitions: Sequence[FleetDefinition]) -> Iterator[Found]:
    first: dict[str, FleetDefinition] = {}
    for definition in definitions:
        other = first.setdefault(definition.name, definition)
        if other is not definition:
            rule = f"makes the deployment {definition.name}, which {other.file.name} makes, too"
            yield definition, Mistake("matrix", rule)


def _parents(definitions: Sequence[FleetDefinition], unread: Set[str]) -> Iterator[Found]:
    by_name = {definition.name: definition for definition in definitions}
    for definition in definitions:
        places = [(f"rebuild_after[{n}]", name) for n, name in enumerate(definition.family.rebuild_after)]
        source = definition.family.source
        if source is not None:
            places.append(("source.definition", source.definition))
        for place, name in places:
            if name in by_name:
                theirs = by_name[name].build.builder
                if source is not None and name == source.definition and theirs != definition.build.builder:
                    rule = f"is a definition of {theirs}, and this one of {definition.build.builder}"
                    yield definition, Mistake(place, rule, name)
            elif not any(name == stem or name.startswith(f"{stem}-") for stem in unread):
                variants = [other.name for other in definitions if other.file.stem == name]
                known = f"its variants are {', '.join(variants)}" if variants else f"there are {', '.join(by_name)}"
                yield definition, Mistake(place, f"is no definition of this fleet; {known}", name)


def _cycles(definitions: Sequence[FleetDefinition]) -> Iterator[Found]:
    by_name = {definition.name: definition for definition in definitions}
    parents = {name: definition.family.parents & by_name.keys() for name, definition in by_name.items()}
    while True:
        try:
            TopologicalSorter(parents).prepare()
        except CycleError as error:
            path: list[str] = error.args[1]  # each before what is made after it
            definition = by_name[path[-1]]
            source = definition.family.source
            place = "source.definition" if source and source.definition == path[-2] else "rebuild_after"
            yield definition, Mistake(place, f"leads round in a circle: {' → '.join(path)}")
            parents[path[-1]] = parents[path[-1]] - {path[-2]}
        else:
            return


def _queues(definitions: Sequence[FleetDefinition]) -> Iterator[Found]:
    limits: dict[tuple[str, str], tuple[int, FleetDefinition]] = {}
    for definition in definitions:
        queue = definition.deployment.work_queue
        if queue.concurrency_limit is None:
            continue
        limit, other = limits.setdefault(
            (definition.deployment.work_pool, queue.name), (queue.concurrency_limit, definition)
        )
        if limit != queue.concurrency_limit:
            rule = f"differs from that of {other.file.name}: {limit}"
            yield definition, Mistake("deployment.work_queue.concurrency_limit", rule, str(queue.concurrency_limit))
