"""The blocks that definitions name, and which of them a Prefect server does not have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel

from blocks.errors import Mistake
from blocks.references import BlockReference, SecretReference
from flows.fleet.file import FleetDefinition
from flows.yaml_file import option_path

_Named = tuple[str, str, str]
"""An option, and the type and the name of the block that it names."""


async def missing_blocks(
    client: PrefectClient, definitions: Iterable[FleetDefinition]
) -> list[tuple[FleetDefinition, Mistake]]:
    """Mistakes for blocks that are named and not on the server, each with its definition."""
    known: dict[tuple[str, str], bool] = {}
    found = []
    for definition in definitions:
        for option, kind, name in _named(definition.build, ()):
            if (kind, name) not in known:
                known[kind, name] = await _is_there(client, kind, name)
            if not known[kind, name]:
                rule = f"names a block of type {kind} that this Prefect server does not have: make it in the UI, Blocks"
                found.append((definition, Mistake(option, rule, name)))
    return found


def _named(value: Any, path: Sequence[str | int]) -> Iterator[_Named]:
    match value:
        case SecretReference():
            if value.block is not None:
                yield option_path(path), "secret", value.block
        case BlockReference():
            if value.block is not None:
                yield option_path(path), value.block_type_slug, value.block
        case BaseModel():
            for name in type(value).model_fields:
                yield from _named(getattr(value, name), (*path, name))
        case dict():
            for key, inner in value.items():
                yield from _named(inner, (*path, key))
        case list() | tuple():
            for place, inner in enumerate(value):
                yield from _named(inner, (*path, place))


async def _is_there(client: PrefectClient, kind: str, name: str) -> bool:
    try:
        await client.read_block_document_by_name(name, kind, include_secrets=False)
    except ObjectNotFound:
        return False
    return True
