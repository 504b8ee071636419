"""What all provisioners share as options: overrides, templates, what is refused, what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError

from tasks.provisioners import Provisioner
from tasks.provisioners.facts import BuildFacts, has_facts, wrong_facts

ONE: TypeAdapter[Provisioner] = TypeAdapter(Provisioner, config=ConfigDict(hide_input_in_errors=True))
PLAIN = "S3CRET-in-the-clear"


def mistakes(**given: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        ONE.validate_python(given)
    assert PLAIN not in str(caught.value)
    kind = given.get("type")
    return {
        ".".join(str(part) for part in detail["loc"] if part != kind): detail["msg"].removeprefix("Value error, ")
        for detail in caught.value.errors()
    }


@pytest.mark.parametrize("kind", ["powershell", "windows-shell", "windows-restart"])
def test_provisioners_for_windows_are_refused_by_name(kind: str) -> None:
    rule = mistakes(type=kind, inline=["x"])["type"]
    assert rule.startswith(f"{kind} is for Windows guests, which are not supported")


def test_what_is_no_type_is_told_which_there_are() -> None:
    assert "'shell-local'" in mistakes(type="magic")[""]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"only": ["a"], "except": ["b"]}, ""),
        ({"only": []}, "only"),
        ({"except": []}, "except"),
        ({"pause_before": -1}, "pause_before"),
        ({"pause_before": "soon"}, "pause_before"),
        ({"timeout": 0}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": 1000}, "max_retries"),
        ({"continue_on_error": "perhaps"}, "continue_on_error"),
        ({"override": {"x": 7}}, "override.x"),
        ({"override": 7}, "override"),
        ({"error_cleanup": True}, "error_cleanup"),
    ],
)
def test_mistakes_in_common_options(options: dict[str, Any], where: str) -> None:
    assert list(mistakes(type="sleep", duration=1, **options)) == [where]


def test_all_mistakes_come_at_once() -> None:
    found = mistakes(
        type="shell",
        inline=["{{build.Nope}}"],
        script="x",
        bad=PLAIN,
        env={"A": "{{ build `Password` }}"},
        override={
            "web": {"inline": [], "nope": PLAIN, "type": "file", "override": {}},
            "db": {"env": {"B": "{{build.SSHPrivateKey}}"}, "timeout": "never"},
        },
    )
    assert set(found) == {
        "bad",
        "inline.0",
        "env.A",
        "override.web.inline",
        "override.web.nope",
        "override.web.type",
        "override.web.override",
        "override.db.env.B",
        "override.db.timeout",
    }
    assert found["inline.0"].startswith("asks for build.Nope: there are ID, Host, ")
    assert found["env.A"] == "asks for build.Password: secrets are not for templates: use env with a reference"
    assert found["override.web.type"] == "cannot be overridden"


def test_rules_of_the_whole_are_told_with_templates_and_overrides() -> None:
    found = mistakes(
        type="shell", inline=["{{build.Nope}}"], script="x", only=["web"], override={"web": {"timeout": 0}}
    )
    assert set(found) == {"", "inline.0", "override.web.timeout"}
    assert "exactly one of" in found[""]


def test_an_override_that_does_not_fit_the_rest() -> None:
    found = mistakes(type="shell", inline=["x"], override={"web": {"script": "y"}})
    assert found == {"override.web": "needs exactly one of inline, script and scripts"}


def test_an_override_that_fits_may_take_something_away() -> None:
    one = ONE.validate_python(
        {"type": "shell", "inline": ["x"], "timeout": 5, "override": {"web": {"inline": None, "script": "y"}}}
    )
    mine = one.for_build(("oxide-instance", "web", "oxide-instance.web"))
    assert mine is not None
    assert (mine.inline, mine.script, mine.timeout) == (None, "y", 5)  # type: ignore[union-attr]


def test_missing_files_of_overrides_are_told_too(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    one = ONE.validate_python(
        {
            "type": "shell",
            "scripts": ["there", "gone"],
            "override": {"a.b": {"scripts": ["there", "lost"]}, "c": {"timeout": 4}},
        }
    )
    found = one.missing_here(tmp_path, "provisioners[3]")
    assert [mistake.option for mistake in found] == [
        "provisioners[3].scripts[1]",
        "provisioners[3].override.a.b.scripts[1]",
    ]


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ({"web": {"duration": 3}}, True),
        ({"web": {"timeout": "3s", "max_retries": 2}}, True),
        ({"web": {"duration": [PLAIN]}}, False),
        ({"web": {"durtion": 3}}, False),
        ({"web": {"type": "shell"}}, False),
        ({"web": 3}, False),
    ],
)
def test_the_form_itself_refuses_a_wrong_override(given: Any, *, right: bool) -> None:
    schema = ONE.json_schema()
    options = {"type": "sleep", "duration": 1, "override": given}
    assert jsonschema.Draft202012Validator(schema).is_valid(options) == right


@pytest.mark.parametrize("kind", ["File", "Reboot", "Shell", "ShellLocal", "Sleep"])
def test_every_option_has_a_title_a_description_and_a_place_of_its_own(kind: str) -> None:
    options = ONE.json_schema()["$defs"][kind]["properties"]
    assert [name for name, option in options.items() if not option.get("title")] == []
    assert [name for name, option in options.items() if name != "type" and not option.get("description")] == []
    places = [option["position"] for option in options.values()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{build.ID}}", "i-1"),
        ("{{ build.ID }}", "i-1"),
        ("{{ build `ID` }}", "i-1"),
        ('{{build "User"}}', "baker"),
        ("{{build.Port}}{{build.Host}}", "22198.51.100.7"),
        ("{{build.name}} {{build.type}}", "web oxide-instance"),
        ("{{.ID}} {{ID}} {{ builder.ID }} {{build_name}} ${build.ID}",) * 2,
    ],
)
def test_templates(text: str, rendered: str) -> None:
    facts = BuildFacts("web", "oxide-instance", instance_id="i-1", host="198.51.100.7", port=22, user="baker")
    assert facts.rendered(text) == rendered
    assert wrong_facts(text) == []
    assert has_facts(text) == (text != rendered)


def test_facts_that_are_no_templates() -> None:
    assert ["no HTTP server" in rule for rule in wrong_facts("{{build.PackerHTTPAddr}}")] == [True]
