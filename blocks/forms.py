"""How models look in the forms of Prefect's UI."""

from __future__ import annotations

from pydantic.json_schema import JsonSchemaValue

UNTOUCHED: JsonSchemaValue = {"type": "object", "title": "None", "properties": {}, "maxProperties": 0}
"""A choice that shows no field and sends nothing."""


def plain_optionals(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Show options that may be left out as plain fields.

    Pydantic makes "this or null, by default null" of them, and a form a pair of buttons; leaving a field empty says the
    same. Prefect's server takes null for such a field all the same.
    """
    for option in schema.get("properties", {}).values():
        members = option.get("anyOf", [])
        others = [member for member in members if member.get("type") != "null"]
        if len(members) == 2 and len(others) == 1 and option.get("default", ...) is None:
            del option["anyOf"], option["default"]
            option.update(others[0])
    return schema
