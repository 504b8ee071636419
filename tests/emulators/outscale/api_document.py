"""Checks requests and replies of a region against the vendor's own OpenAPI document."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml
from jsonschema import Draft202012Validator

from tests.emulators.openapi import as_json_schema

_SHARED = Path(__file__).parents[3].parent / "shared" / "specs"


@cache
def _found(shared: str, packaged: str) -> Path | None:
    if (_SHARED / shared).exists():
        return _SHARED / shared
    package = importlib.util.find_spec("osc_sdk_python")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "resources" / packaged
    return path if path.exists() else None


def document_path() -> Path | None:
    return _found("outscale-1.42.0.yaml", "outscale.yaml")


def error_table() -> dict[int, dict[str, str]] | None:
    path = _found("outscale-gateway-errors.yaml", "gateway_errors.yaml")
    return None if path is None else _load(path)


def _load(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


class ApiDocument:
    def __init__(self, path: Path) -> None:
        document = _load(path)
        self.paths: set[str] = {name.removeprefix("/") for name in document["paths"]}
        self.components = as_json_schema(document["components"])
        self.answered: set[str] = set()

    def filters(self, name: str) -> set[str]:
        return set(self.components["schemas"][name]["properties"])

    def check(self, response: httpx.Response) -> None:
        assert response.headers["content-type"] == "application/json"
        content = response.json()
        assert content["ResponseContext"]["RequestId"]
        action = response.request.url.path.rpartition("/")[2]
        if response.status_code != 200:
            self._validate(content, "ErrorResponse")
            assert content["Errors"]
            return
        self._validate(json.loads(response.request.content), f"{action}Request")
        self._validate(content, f"{action}Response")
        self.answered.add(action)

    def _validate(self, value: Any, schema: str) -> None:
        reference = {"$ref": f"#/components/schemas/{schema}", "components": self.components}
        Draft202012Validator(reference).validate(value)
