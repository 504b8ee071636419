"""Checks requests and replies of a region against the vendor's own OpenAPI document."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker

from tests.emulators.openapi import as_json_schema

_SHARED = Path(__file__).parents[3].parent / "shared" / "specs"

_FORMATS = FormatChecker(formats=())


@_FORMATS.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@_FORMATS.checks("date", raises=ValueError)
def _is_day(value: object) -> bool:
    return not isinstance(value, str) or (len(value) == 10 and date.fromisoformat(value) is not None)


@_FORMATS.checks("byte", raises=ValueError)
def _is_base64(value: object) -> bool:
    return not isinstance(value, str) or base64.b64decode(value, validate=True) is not None


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
        self.paths: dict[str, Any] = {name.removeprefix("/"): told for name, told in document["paths"].items()}
        self.components = as_json_schema(document["components"])
        self._validators: dict[str, Draft202012Validator] = {}

    def schema(self, name: str) -> dict[str, Any]:
        return dict(self.components["schemas"][name])

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        reference = schema.get("$ref")
        return self.schema(reference.rpartition("/")[2]) if reference else schema

    def examples(self, action: str) -> list[dict[str, Any]]:
        content = self.paths[action]["post"]["responses"]["200"]["content"]["application/json"]
        return [example["value"] for example in content["examples"].values()]

    def check_request(self, action: str, body: Mapping[str, Any]) -> None:
        self._validator(f"{action}Request").validate(body)

    def check_reply(self, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        assert headers["content-type"] == "application/json"
        content = json.loads(body)
        assert content["ResponseContext"]["RequestId"]
        if status == 200:
            self._validator(f"{path.rpartition('/')[2]}Response").validate(content)
            return
        self._validator("ErrorResponse").validate(content)
        assert content["Errors"]
        assert all(error.keys() == {"Type", "Details", "Code"} for error in content["Errors"])

    def _validator(self, schema: str) -> Draft202012Validator:
        if schema not in self._validators:
            reference = {"$ref": f"#/components/schemas/{schema}", "components": self.components}
            self._validators[schema] = Draft202012Validator(reference, format_checker=_FORMATS)
        return self._validators[schema]
