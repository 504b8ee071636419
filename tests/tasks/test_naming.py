from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.oxide.models import NAME_LENGTH, NAME_PATTERN
from flows.oxide_image.definition import OxideImageDefinition
from tasks.naming import VARIABLES, oxide_name, render, shortened, unknown_variables, variables

RUN = UUID("01936f5e-1f00-7000-8000-0000deadbeef")
CREATED = datetime(2026, 11, 21, 13, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))
VALUES = variables(RUN, CREATED, build_name="Web_Server.1", source_name="debian-12")
NAMES = st.from_regex(NAME_PATTERN.replace("*", "{0,61}"), fullmatch=True)
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))


def definition(**options: object) -> OxideImageDefinition:
    return OxideImageDefinition.model_validate(
        {"boot_disk_image_id": "x", "project": "p", "ssh_username": "u", **options}
    )


def test_every_variable_has_a_value() -> None:
    assert set(VALUES) == set(VARIABLES)
    assert VALUES == {
        "timestamp": "1795262400",
        "isotime": "2026-11-21T12:00:00Z",
        "build_name": "Web_Server.1",
        "source_name": "debian-12",
        "run_id": "deadbeef",
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{{source_name}}-{{timestamp}}-{{run_id}}", "debian-12-1795262400-deadbeef"),
        ("a-{{isotime}}", "a-20261121t120000z"),
        ("a-{{ isotime }}", "a-20261121t120000z"),
        ("{{build_name}}", "web-server-1"),
        ("plain", "plain"),
        ("Not_Cleaned-{{run_id}}", "Not_Cleaned-deadbeef"),
    ],
)
def test_names_are_cleaned_where_variables_stand(text: str, name: str) -> None:
    assert oxide_name(text, VALUES) == name


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("baked {{isotime}} of {{build_name}}", "baked 2026-11-21T12:00:00Z of Web_Server.1"),
        ("{{nothing}} {{ run_id }}", "{{nothing}} deadbeef"),
        ("{{source_name}", "{{source_name}"),
    ],
)
def test_texts_take_values_as_they_are(text: str, rendered: str) -> None:
    assert render(text, VALUES) == rendered


def test_values_are_not_rendered_again() -> None:
    assert render("{{build_name}}", {**VALUES, "build_name": "{{run_id}}"}) == "{{run_id}}"


def test_unknown_variables_are_told() -> None:
    assert unknown_variables("{{timestamp}} {{user}} {{ }} {{run_id }}") == ["user", ""]
    assert unknown_variables("{{user}}", known=["user"]) == []


def test_the_same_run_names_things_alike_and_another_otherwise() -> None:
    again = variables(RUN, CREATED, build_name="Web_Server.1", source_name="debian-12")
    other = variables(UUID(int=RUN.int + 1), CREATED, build_name="Web_Server.1", source_name="debian-12")
    assert definition().image_name(again) == definition().image_name(VALUES)
    assert definition().image_name(other) != definition().image_name(VALUES)


def test_without_a_source_its_name_stands_as_it_is() -> None:
    assert oxide_name("{{source_name}}-x", variables(RUN, CREATED, build_name="b")) == "{{source_name}}-x"


@given(NAMES, st.uuids(), MOMENTS)
def test_a_default_name_is_valid_and_cut_in_its_first_part_only(source: str, run: UUID, created: datetime) -> None:
    values = variables(run, created, build_name="b", source_name=source)
    name = definition().image_name(values)
    assert re.fullmatch(NAME_PATTERN, name)
    assert len(name) <= NAME_LENGTH
    suffix = f"-{values['timestamp']}-{values['run_id']}"
    assert name.endswith(suffix)
    assert source.startswith(name.removesuffix(suffix))
    assert name.removesuffix(suffix) == source or len(name) >= NAME_LENGTH - source.count("-")


@given(NAMES, NAMES, st.integers(1, NAME_LENGTH))
def test_nothing_is_cut_of_a_suffix(first: str, suffix: str, length: int) -> None:
    name = shortened(first, f"-{suffix}", length)
    assert name.endswith(f"-{suffix}")
    assert len(name) <= max(length, len(suffix) + 1)
    assert "--" not in name.removesuffix(f"-{suffix}")[-1:] + "-"


@given(st.text(max_size=40), st.uuids(), MOMENTS)
def test_a_name_of_any_values_holds_only_what_a_name_may(build: str, run: UUID, created: datetime) -> None:
    name = oxide_name("a{{build_name}}", variables(run, created, build_name=build, source_name="s"))
    assert re.fullmatch(NAME_PATTERN, name)
