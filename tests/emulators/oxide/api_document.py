"""Checks every reply of a region against the API's own OpenAPI document."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from tests.emulators.openapi import as_json_schema

DOCUMENT = Path(__file__).parents[3].parent / "shared" / "specs" / "oxide-nexus-2026060800.0.0.json"


class ApiDocument:
    def __init__(self) -> None:
        document = json.loads(DOCUMENT.read_text())
        self._components = as_json_schema(document["components"])
        self._operations: list[tuple[re.Pattern[str], str, dict[str, Any]]] = []
        for path, methods in document["paths"].items():
            pattern = re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path))
            for method, operation in methods.items():
                if "operationId" in operation:
                    self._operations.append((pattern, method.upper(), operation))
        self.checked: set[str] = set()

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        for pattern, known, operation in sorted(self._operations, key=lambda o: "[^/]+" in o[0].pattern):
            if known == method and pattern.fullmatch(path):
                return operation
        return None

    def check(self, response: httpx.Response) -> None:
        operation = self._operation(response.request.method, response.request.url.path)
        if operation is None:
            return
        assert response.headers["x-request-id"]
        code = str(response.status_code)
        if code not in operation["responses"]:
            assert code[0] in "45", f"{operation['operationId']} answered {code}"
            self._validate(response.json(), {"$ref": "#/components/schemas/Error"})
            return
        self.checked.add(operation["operationId"])
        content = operation["responses"][code].get("content")
        if content is None:
            assert response.content == b""
        else:
            self._validate(response.json(), content["application/json"]["schema"])

    def _validate(self, value: Any, schema: dict[str, Any]) -> None:
        Draft202012Validator({**schema, "components": self._components}).validate(value)
