"""Checks every accepted request and every reply of a region against the API's own OpenAPI document."""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from jsonschema import Draft202012Validator, FormatChecker

from tests.emulators.openapi import as_json_schema
from tests.emulators.oxide.excerpt import EXCERPT

DOCUMENT = Path(__file__).parents[3].parent / "shared" / "specs" / "oxide-nexus-2026060800.0.0.json"
"""The whole document, where it is at hand."""

_FORMATS = FormatChecker(formats=[])
_FORMATS.checks("uuid", ValueError)(lambda value: not isinstance(value, str) or bool(UUID(value)))
_FORMATS.checks("date-time", ValueError)(lambda value: not isinstance(value, str) or bool(_time(value)))
for _ip in ("ip", "ipv4", "ipv6"):
    _FORMATS.checks(_ip, ValueError)(lambda value: not isinstance(value, str) or bool(ip_address(value)))
for _bits in (8, 16, 32, 64):
    _FORMATS.checks(f"uint{_bits}")(lambda value, top=1 << _bits: not isinstance(value, int) or 0 <= value < top)


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("RFC 3339 wants an offset")
    return time


class ApiDocument:
    def __init__(self) -> None:
        self.document: dict[str, Any] = json.loads(EXCERPT.read_text())
        self._open = as_json_schema(self.document["components"])
        self._closed = _closed(self._open)
        self.operations: list[tuple[re.Pattern[str], str, str, dict[str, Any]]] = []
        for path, methods in self.document["paths"].items():
            pattern = re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path))
            for method, operation in methods.items():
                self.operations.append((pattern, method.upper(), path, operation))
        self.operations.sort(key=lambda found: found[2].count("{"))
        self.checked: set[str] = set()
        """Operations that have succeeded."""
        self.validator = cache(self._validator)

    def check(self, response: httpx.Response) -> None:
        """Assert that a reply is one that the document allows; if it is a success, that the request is, too."""
        request = response.request
        operation = self._operation(request.method, request.url.path)
        if operation is None:
            return
        assert response.headers["x-request-id"]
        if "default" in operation["responses"]:
            return
        code = str(response.status_code)
        if code not in operation["responses"]:
            assert code[0] in "45", f"{operation['operationId']} answered {code}"
            self._validate(response.json(), {"$ref": "#/components/schemas/Error"}, closed=True)
            return
        self.checked.add(operation["operationId"])
        self._check_request(request, operation)
        content = operation["responses"][code].get("content")
        if content is None:
            assert response.content == b""
        else:
            self._validate(response.json(), content["application/json"]["schema"], closed=True)

    def _check_request(self, request: httpx.Request, operation: dict[str, Any]) -> None:
        known = {p["name"]: p for p in operation.get("parameters", []) if p["in"] == "query"}
        for name, parameter in known.items():
            assert name in request.url.params or not parameter.get("required"), f"{name} is missing"
        for name in request.url.params:
            assert name in known, f"{operation['operationId']} has no parameter {name}"
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            self._validate(json.loads(request.content), schema, closed=False)

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        for pattern, known, _, operation in self.operations:
            if known == method and pattern.fullmatch(path):
                return operation
        return None

    def _validate(self, value: Any, schema: dict[str, Any], *, closed: bool) -> None:
        self.validator(json.dumps(schema), closed).validate(value)

    def _validator(self, schema: str, closed: bool) -> Draft202012Validator:
        components = self._closed if closed else self._open
        return Draft202012Validator({**json.loads(schema), "components": components}, format_checker=_FORMATS)


def _closed(node: Any) -> Any:
    """The same schemas, taking no property that they do not name: what a region shows of itself would be one."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    if node.get("type") == "object" and isinstance(node.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed
