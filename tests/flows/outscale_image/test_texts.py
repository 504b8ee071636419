"""Variables in names, descriptions and tags."""

from __future__ import annotations

import pytest

from flows.outscale_image.texts import Values

VALUES = Values.of(
    {"timestamp": "1795262400", "isotime": "2026-11-22T00:00:00Z", "build_name": "web", "run_id": "0123abcd"},
    region="eu-west-2",
    source_id="ami-12345678",
    source_name="Debian [12]",
    source_tags={"version": "12.1", "odd": "{{run_id}}"},
)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{.BuildRegion}} {{ .SourceOMI }} {{.SourceOMIName}}", "eu-west-2 ami-12345678 Debian [12]"),
        ('{{index .SourceOMITags "version"}}', "12.1"),
        ('a{{ index .SourceOMITags "none" }}b', "ab"),
        ('{{index .SourceOMITags "odd"}}', "{{run_id}}"),
        ("{{build_name}}-{{run_id}} at {{isotime}}", "web-0123abcd at 2026-11-22T00:00:00Z"),
    ],
)
def test_a_text(text: str, rendered: str) -> None:
    assert VALUES.text(text) == rendered


def test_what_variables_become_is_cleaned_to_what_a_name_may_hold() -> None:
    assert VALUES.name("{{.SourceOMIName}} {{isotime}}") == "Debian -12- 20261122t000000z"
    assert VALUES.name('v{{index .SourceOMITags "version"}}{{index .SourceOMITags "none"}}') == "v12.1"
    assert VALUES.name('{{index .SourceOMITags "odd"}}') == "--run_id--"


def test_keys_of_tags_are_texts_as_well() -> None:
    assert VALUES.tags({"{{build_name}}:from": "{{.SourceOMI}}"}) == {"web:from": "ami-12345678"}


def test_from_scratch_the_sources_variables_are_empty() -> None:
    values = Values.of({}, region="eu-west-2")
    assert values.text('[{{.SourceOMI}}{{.SourceOMIName}}{{index .SourceOMITags "a"}}]') == "[]"
