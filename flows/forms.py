"""Forms that a person can fill in: how Prefect's UI shows the options of a builder.

A definition is flat, and has a hundred options. In the form those that everybody needs come first, and each of the
others is in a section that stays folded until somebody chooses to set something in it. What is left alone is not sent,
so a run's parameters are what was typed. Flat options are taken as ever: from the command line, the API, a deployment.

The UI looks at a schema's properties, choices and defaults; `then` and `unevaluatedProperties` are looked at by the
server alone. That is how one schema shows sections and takes flat options. It also keeps the errors of a section to the
option that is wrong: a choice (`anyOf`) that fits nowhere would be shown with all that is in it. What is looked at in
several places is a definition of its own, since the server checks the whole schema whenever a run is created.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from blocks.forms import UNTOUCHED
from tasks.quantities import BYTES, SECONDS, duration_text, size_text

_JSON = 'As JSON: {"NAME": …}.'
_SAID = frozenset({"title", "description", "position", "default"})
FIRST = range(11)
"""Positions of the options that stand at the top of the form, in no section."""


@dataclass(frozen=True)
class Section:
    """A section of a form, folded at first."""

    name: str
    """What its options are below in a run's parameters; no option has this name."""
    title: str
    description: str
    positions: range
    """Of the options that are in it."""

    def has(self, option: Mapping[str, Any]) -> bool:
        """Whether an option, by its schema, is in this section."""
        return option["position"] in self.positions


MORE = Section(
    "more", "More options", "For which builds, pauses, time-outs, retries and whatever is seldom set.", range(11, 100)
)
"""The section that all provisioners have."""


def without_sections(sections: Sequence[Section], given: Any) -> Any:
    """The flat options of a build that was given as a form sends it, or flat, or as a mixture of both.

    An option that stands in a section counts for more than the same one outside: it was typed over it.
    """
    flat = _flat(sections, given)
    if isinstance(flat, dict):
        if isinstance(listed := flat.get("provisioners"), list):
            flat["provisioners"] = [_flat([MORE], provisioner) for provisioner in listed]
        if (cleanup := flat.get("error_cleanup_provisioner")) is not None:
            flat["error_cleanup_provisioner"] = _flat([MORE], cleanup)
    return flat


def in_sections(sections: Sequence[Section], model: BaseModel) -> dict[str, Any]:
    """The options that are set, where a form looks for them: what `without_sections` makes flat again."""
    given: dict[str, Any] = {}
    for name, value in model.model_dump(mode="json", by_alias=True, exclude_unset=True).items():
        inner = getattr(model, name, None)
        if name == "provisioners":
            value = [in_sections([MORE], each) for each in inner or ()]
        elif name == "error_cleanup_provisioner" and isinstance(inner, BaseModel):
            value = in_sections([MORE], inner)
        position = _position(model, name)
        section = next((each for each in sections if position in each.positions), None)
        (given.setdefault(section.name, {}) if section else given)[name] = value
    return given


def _position(model: BaseModel, option: str) -> int:
    fields = type(model).model_fields
    field = fields.get(option) or next(each for each in fields.values() if each.alias == option)
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    position = extra["position"]
    assert isinstance(position, int)
    return position


def _flat(sections: Sequence[Section], given: Any) -> Any:
    if not isinstance(given, dict):
        return given
    flat = dict(given)
    for section in sections:
        if isinstance(given.get(section.name), dict):
            flat |= flat.pop(section.name)
    return flat


@dataclass(frozen=True)
class Form:
    """Makes a form with sections of a definition's schema: an annotation for the parameter of a flow."""

    sections: Sequence[Section]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema that the UI makes the form of, and the server checks parameters by."""
        reference = handler(core)
        schema = handler.resolve_ref_schema(reference)
        for part in _objects(schema, handler, set()):
            _say_defaults(part["properties"])
            _fold_objects(part, handler)
            if "const" in part["properties"].get("type", {}):
                _fold(part, [MORE], handler)
        _fold(schema, self.sections, handler)
        return reference


def _fold(schema: JsonSchemaValue, sections: Sequence[Section], handler: GetJsonSchemaHandler) -> None:
    """Put the options that do not come first into sections, each with an empty tab and one that has the options.

    By the server they are also taken flat. What is in a section is checked in `then`, where it is certainly meant; what
    `then` says already of some option holds for it wherever it stands.
    """
    options = schema["properties"]
    folded = {name: option for name, option in options.items() if option["position"] not in FIRST}
    schema["properties"] = {name: option for name, option in options.items() if name not in folded}
    del schema["additionalProperties"]
    # Known by their names, whatever they hold: a mistake in one is then told of that one alone.
    schema["patternProperties"] = {f"^({'|'.join(folded)})$": {}}
    schema["unevaluatedProperties"] = False
    schema.setdefault("if", {"type": "object"})
    strict = _bare(schema.get("then", {"properties": {}}))["properties"]
    then: JsonSchemaValue = {
        "properties": {name: option for name, option in strict.items() if name not in folded},
        "allOf": [],
    }
    schema["then"] = then
    for section in sections:
        within = {name: option for name, option in folded.items() if section.has(option)}
        shown = _defined(f"{schema['title']} {section.name}", {"title": "Set options", "properties": within}, handler)
        inside = {**shown, "unevaluatedProperties": False}
        then["allOf"].append(shown)
        if stricter := {name: option for name, option in strict.items() if name in within}:
            checked = _defined(f"{schema['title']} {section.name} checked", {"properties": stricter}, handler)
            inside["allOf"] = [checked]
            then["allOf"].append(checked)
        schema["properties"][section.name] = {
            "title": section.title,
            "description": section.description,
            "position": section.positions.start,
            "anyOf": [{"type": "object", "title": "Defaults", "properties": {}}, shown],
        }
        then["properties"][section.name] = inside


def _defined(name: str, schema: JsonSchemaValue, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """A reference to a definition of an object."""
    key = f"{__name__}.{name.replace(' ', '_')}:0"
    empty = core_schema.any_schema(ref=key)
    reference = handler(core_schema.definitions_schema(core_schema.definition_reference_schema(key), [empty]))
    handler.resolve_ref_schema(reference).update({"type": "object", **schema})
    return reference


def _bare(schema: JsonSchemaValue) -> JsonSchemaValue:
    """A schema without what it says to people."""
    bare: JsonSchemaValue = {}
    for word, said in schema.items():
        match said:
            case _ if word in _SAID:
                continue
            case dict() if word in ("properties", "patternProperties"):
                bare[word] = {name: _bare(option) for name, option in said.items()}
            case dict():
                bare[word] = _bare(said)
            case [dict(), *_]:
                bare[word] = [_bare(choice) for choice in said]
            case _:
                bare[word] = said
    return bare


def _say_defaults(options: dict[str, Any]) -> None:
    """Have defaults told and not filled in, so that a form sends what was typed.

    A switch that is on stays so. A type that can only be one thing is that.
    """
    for name, option in options.items():
        if "const" in option:
            options[name] = option | {"enum": [option["const"]], "default": option["const"]}
        elif option.get("default") is not True and "default" in option:
            default = _written(option, option["default"])
            told = option.get("description", "")
            if default and "Default:" not in told:
                told = f"{told} Default: {default}.".lstrip()
            options[name] = {key: value for key, value in option.items() if key != "default"} | {"description": told}
        if "oneOf" in option:  # a form opens the first choice and fills in its type
            options[name] = {**options[name], "oneOf": [UNTOUCHED, *option["oneOf"]]}


def _fold_objects(schema: JsonSchemaValue, handler: GetJsonSchemaHandler) -> None:
    """Show no fields of an object that may be left out before somebody chooses to have it."""
    for name, option in schema["properties"].items():
        if isinstance(option.get("$ref"), str) and name not in schema.get("required", ()):
            chosen = handler.resolve_ref_schema({"$ref": option["$ref"]})
            if "properties" in chosen and "if" not in chosen:  # with an `if` it is a reference, which has its own form
                schema["properties"][name] = {
                    "anyOf": [UNTOUCHED, {"$ref": option["$ref"]}],
                    **{word: option[word] for word in ("title", "description", "position") if word in option},
                }
        elif option.get("type") == "object" and not option.get("properties"):
            schema["properties"][name] = option | {"description": f"{option.get('description', '')} {_JSON}".lstrip()}


def _written(option: Mapping[str, Any], default: Any) -> str:
    """A default as a person would write it; nothing for one that says nothing."""
    kinds = {choice.get("title") for choice in option.get("anyOf", ())}
    if BYTES in kinds:
        return size_text(default)
    if SECONDS in kinds:
        return duration_text(default) if default else ""
    if isinstance(default, list):
        return "" if any(isinstance(item, list | dict) for item in default) else ", ".join(map(str, default))
    return str(default) if isinstance(default, str | int) and default is not False else ""


def _objects(schema: Any, handler: GetJsonSchemaHandler, seen: set[int]) -> Iterator[dict[str, Any]]:
    """All object schemas that a form may come to show, each once; lists and choices are looked into."""
    if isinstance(schema, list):
        for part in schema:
            yield from _objects(part, handler, seen)
    elif isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            schema = handler.resolve_ref_schema(schema)
        if id(schema) in seen:
            return
        seen.add(id(schema))
        for word in ("anyOf", "oneOf", "items"):
            yield from _objects(schema.get(word), handler, seen)
        if schema.get("properties"):
            yield from _objects(list(schema["properties"].values()), handler, seen)
            yield schema
