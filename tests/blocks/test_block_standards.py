"""What every block type has, so that people recognise it in the UI."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest
from prefect.blocks.abstract import CredentialsBlock
from prefect.blocks.core import Block
from pydantic import SecretStr

import blocks


def _block_types() -> list[type[Block]]:
    modules = [importlib.import_module(found.name) for found in pkgutil.walk_packages(blocks.__path__, "blocks.")]
    return sorted(
        {
            kind
            for module in modules
            for kind in vars(module).values()
            if inspect.isclass(kind) and issubclass(kind, Block) and kind.__module__.startswith("blocks.")
        },
        key=lambda kind: kind.__name__,
    )


BLOCK_TYPES = _block_types()


def test_there_are_some() -> None:
    assert "OxideCredentials" in [kind.__name__ for kind in BLOCK_TYPES]


@pytest.mark.parametrize("kind", BLOCK_TYPES)
class TestEveryBlock:
    def test_is_recognised_in_the_ui(self, kind: type[Block]) -> None:
        assert kind._block_type_name
        assert kind.get_block_type_slug() == kind._block_type_name.lower().replace(" ", "-")
        assert (kind.get_description() or "").endswith(".")
        assert str(kind._logo_url).startswith("https://")
        assert str(kind._documentation_url).startswith("https://")

    def test_says_what_each_field_is(self, kind: type[Block]) -> None:
        for name, field in kind.model_fields.items():
            assert field.title, name
            assert field.description, name

    def test_hides_its_secrets(self, kind: type[Block]) -> None:
        words = ("token", "password", "secret", "private", "access_key")
        suspicious = [name for name in kind.model_fields if any(word in name for word in words)]
        for name in suspicious:
            if name.endswith("_id"):
                continue
            annotation = kind.model_fields[name].annotation
            assert SecretStr in (annotation, *getattr(annotation, "__args__", ())), name
        if issubclass(kind, CredentialsBlock):
            assert suspicious

    def test_gives_a_client(self, kind: type[Block]) -> None:
        if issubclass(kind, CredentialsBlock):
            assert "get_client" in vars(kind)
            assert inspect.getdoc(vars(kind)["get_client"])

    def test_shows_how_it_is_loaded(self, kind: type[Block]) -> None:
        doc = inspect.getdoc(kind) or ""
        assert f'{kind.__name__}.load("' in doc
        assert f"from {kind.__module__} import {kind.__name__}" in doc
        assert kind.get_code_example()
