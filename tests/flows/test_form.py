"""The forms that Prefect's UI makes of the flows' parameters, and what its server takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from prefect.utilities.schema_tools.validation import preprocess_schema, validate

from flows.check import check
from flows.definition import BuildDefinition
from flows.forms import FIRST, MORE, in_sections, without_sections
from flows.outscale_image.definition import OutscaleImageDefinition
from flows.outscale_image.flow import build_outscale_image
from flows.oxide_image.definition import OxideImageDefinition
from flows.oxide_image.flow import build_oxide_image

OXIDE = {"boot_disk_image_id": "noble", "project": "images", "ssh_username": "ubuntu"}
SECRET = "hunter2-and-more"
PROVISIONERS = ("Shell", "File", "Reboot", "Ansible", "AnsibleLocal", "ShellLocal", "Generalize", "Sleep", "Breakpoint")


@cache
def parameters(flow: Any) -> dict[str, Any]:
    """The schema as the server has it."""
    schema: dict[str, Any] = flow.parameters.model_dump_for_openapi()
    return schema


def definitions(flow: Any) -> dict[str, Any]:
    found: dict[str, Any] = parameters(flow)["definitions"]
    return found


def build_of(flow: Any) -> dict[str, Any]:
    build: dict[str, Any] = next(
        schema for name, schema in definitions(flow).items() if name.endswith("ImageDefinition")
    )
    return build


def options_in(flow: Any, section: dict[str, Any]) -> dict[str, Any]:
    """What a section shows once somebody chooses to set something."""
    untouched, chosen = section["anyOf"]
    assert untouched["properties"] == {}
    options: dict[str, Any] = definitions(flow)[chosen["$ref"].rpartition("/")[2]]["properties"]
    return options


def shown(flow: Any, schema: dict[str, Any], sections: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All options of a form, in sections or not."""
    for name, option in schema["properties"].items():
        yield from options_in(flow, option).items() if name in sections else [(name, option)]


@cache
def checked(flow: Any) -> dict[str, Any]:
    """The schema as the server checks parameters by."""
    return dict(preprocess_schema(parameters(flow), allow_none_with_default=True))


def _parts(schema: Any) -> int:
    if isinstance(schema, dict):
        return 1 + sum(map(_parts, schema.values()))
    return sum(map(_parts, schema)) if isinstance(schema, list) else 0


def refused(flow: Any, build: dict[str, Any]) -> str:
    """What the server says about parameters, before it stores anything."""
    errors = validate({"build": build}, checked(flow), preprocess=False)
    if not errors:
        return ""
    shown = best_match(iter(errors))
    assert shown is not None
    return f"{shown.json_path}: {shown.message}"


@pytest.mark.parametrize(
    ("flow", "model"),
    [(build_oxide_image, OxideImageDefinition), (build_outscale_image, OutscaleImageDefinition)],
    ids=["oxide", "outscale"],
)
class TestTheForm:
    def test_every_option_is_in_one_place_with_a_title_and_a_description(
        self, flow: Any, model: type[BuildDefinition[Any]]
    ) -> None:
        options = list(shown(flow, build_of(flow), [section.name for section in model.sections]))
        assert sorted(name for name, _ in options) == sorted(model.model_fields)
        assert [name for name, option in options if not option.get("title")] == []
        assert [name for name, option in options if not option.get("description")] == []
        places = [option.get("position") for _, option in options]
        assert None not in places
        assert len(set(places)) == len(places)

    def test_it_is_a_schema_of_which_nothing_is_said_twice(self, flow: Any, model: type[BuildDefinition[Any]]) -> None:
        del model
        Draft202012Validator.check_schema(checked(flow))
        # The server looks through all of it whenever a run is created: a second and more for twice as many parts.
        assert _parts(parameters(flow)) < 1_100

    def test_what_everybody_needs_comes_first_and_the_rest_is_folded(
        self, flow: Any, model: type[BuildDefinition[Any]]
    ) -> None:
        build = build_of(flow)
        inner = {section.name for section in model.sections}
        assert not inner & model.model_fields.keys()
        first = build["properties"].keys() - inner
        assert len(first) <= 8
        assert set(build.get("required", ())) <= first
        assert {"build_name", "credentials", "provisioners"} <= first
        assert all(build["properties"][name]["position"] in FIRST for name in first)

    def test_nothing_is_filled_in_that_nobody_typed(self, flow: Any, model: type[BuildDefinition[Any]]) -> None:
        options = list(shown(flow, build_of(flow), [section.name for section in model.sections]))
        for name in PROVISIONERS:
            options += [*shown(flow, definitions(flow)[name], [MORE.name])]
        filled = {name: option["default"] for name, option in options if "default" in option}
        # A switch that is on, and the type of a provisioner, which is part of choosing it.
        assert {name for name, default in filled.items() if default is not True} == {"type"}
        # A choice opens its first member, and a member may fill in its type.
        assert all(option["oneOf"][0]["properties"] == {} for _, option in options if "oneOf" in option)

    @pytest.mark.parametrize("name", PROVISIONERS)
    def test_a_provisioner_is_told_by_its_type(self, flow: Any, model: type[BuildDefinition[Any]], name: str) -> None:
        schema = definitions(flow)[name]
        assert "type" in schema["required"]
        kind = schema["properties"]["type"]
        assert kind["enum"] == [kind["default"]]
        assert {"only", "timeout", "max_retries"} <= options_in(flow, schema["properties"][MORE.name]).keys()

    def test_credentials_show_a_picker_and_take_no_contents(self, flow: Any, model: type[BuildDefinition[Any]]) -> None:
        pickers = [schema for schema in definitions(flow).values() if "block_type_slug" in schema]
        assert len(pickers) == 1
        assert pickers[0]["additionalProperties"] is False

    def test_no_secret_takes_a_plain_value_or_shows_it(self, flow: Any, model: type[BuildDefinition[Any]]) -> None:
        good: dict[str, Any] = OXIDE if model is OxideImageDefinition else {"source_omi": "ami-12345678"}
        assert not refused(flow, good)
        for section in model.sections:
            for name, option in options_in(flow, build_of(flow)["properties"][section.name]).items():
                if option.get("$ref", "").endswith("/SecretReference"):
                    reference = {"$ref": {"block_document_id": "2f8b9a2e-0000-4000-8000-000000000000"}}
                    for right in ({"env": "SECRET"}, {"block": "name"}, reference):
                        assert not refused(flow, {**good, section.name: {name: right}})
                        assert not refused(flow, {**good, name: right})
                    for wrong in (SECRET, {"value": SECRET}, [SECRET], {"env": {"a": SECRET}}):
                        for build in ({section.name: {name: wrong}}, {name: wrong}):
                            said = refused(flow, {**good, **build})
                            assert said
                            assert wrong != SECRET or SECRET not in said

    def test_a_provisioners_secrets_are_looked_into_wherever_they_stand(
        self, flow: Any, model: type[BuildDefinition[Any]]
    ) -> None:
        good: dict[str, Any] = OXIDE if model is OxideImageDefinition else {"source_omi": "ami-12345678"}
        shell = {"type": "shell", "inline": ["true"]}
        for more in ({"max_retries": 2}, {"override": {"web": {"env": {"TOKEN": {"env": "TOKEN"}}}}}):
            assert not refused(flow, {**good, "provisioners": [{**shell, "more": more}]})
            assert not refused(flow, {**good, "provisioners": [{**shell, **more}]})
        wrong = {"override": {"web": {"env": {"TOKEN": {"value": SECRET}}}}}
        for provisioner in ({**shell, "more": wrong}, {**shell, **wrong}, {**shell, "more": {"retries": SECRET}}):
            said = refused(flow, {**good, "provisioners": [provisioner]})
            assert said


class TestWhatTheServerTakes:
    FLAT: ClassVar[dict[str, Any]] = {**OXIDE, "cpus": 2, "vpc": "lab", "memory": 2**30, "keep_for": "1h", "name": None}

    def test_flat_options_as_ever(self) -> None:
        assert not refused(build_oxide_image, self.FLAT)

    def test_options_in_sections(self) -> None:
        build = {**OXIDE, "instance": {"cpus": 2, "memory": "1GiB"}, "network": {"vpc": "lab"}, "ssh": {}}
        assert not refused(build_oxide_image, build)

    def test_some_flat_and_some_in_sections(self) -> None:
        assert not refused(build_oxide_image, {**self.FLAT, "instance": {"cpus": 4}})

    @pytest.mark.parametrize(
        ("build", "names"),
        [
            ({**OXIDE, "cpuz": 2}, "cpuz"),
            ({**OXIDE, "cpus": "two"}, "build.cpus"),
            ({**OXIDE, "instance": {"cpuz": 2}}, "cpuz"),
            ({**OXIDE, "instance": {"cpus": "two"}}, "build.instance.cpus"),
            ({**OXIDE, "endings": {"keep_for": "300"}}, "build.endings.keep_for"),
            ({"boot_disk_image_id": "noble"}, "project"),
        ],
    )
    def test_a_mistake_is_refused_by_its_name(self, build: dict[str, Any], names: str) -> None:
        assert names in refused(build_oxide_image, build)


class TestABuildOfAForm:
    def test_is_the_same_as_one_that_was_given_flat(self) -> None:
        given = {
            **OXIDE,
            "instance": {"cpus": 4},
            "provisioners": [{"type": "shell", "inline": ["true"], "more": {"max_retries": 2}}],
            "endings": {"error_cleanup_provisioner": {"type": "sleep", "duration": "1s", "more": {"name": "wait"}}},
        }
        flat = {
            **OXIDE,
            "cpus": 4,
            "provisioners": [{"type": "shell", "inline": ["true"], "max_retries": 2}],
            "error_cleanup_provisioner": {"type": "sleep", "duration": "1s", "name": "wait"},
        }
        before = json.dumps(given)
        assert without_sections(OxideImageDefinition.sections, given) == flat
        assert check(OxideImageDefinition, given) == check(OxideImageDefinition, flat)
        assert json.dumps(given) == before

    def test_is_found_again_by_the_form(self) -> None:
        given = {**OXIDE, "cpus": 4, "provisioners": [{"type": "sleep", "duration": 1, "except": ["web"]}]}
        definition = check(OxideImageDefinition, given)
        grouped = in_sections(definition.sections, definition)
        assert grouped["instance"] == {"cpus": 4}
        assert grouped["provisioners"] == [{"type": "sleep", "duration": 1.0, "more": {"except": ["web"]}}]
        assert check(OxideImageDefinition, grouped) == definition
        assert not refused(build_oxide_image, grouped)

    def test_counts_for_more_than_what_a_deployment_gives(self) -> None:
        definition = check(OxideImageDefinition, {**OXIDE, "cpus": 2, "instance": {"cpus": 4}})
        assert definition.cpus == 4

    @pytest.mark.parametrize("given", [None, [], "build", {"instance": "large"}])
    def test_is_left_to_be_checked_if_it_is_none(self, given: Any) -> None:
        assert without_sections(OxideImageDefinition.sections, given) == given
