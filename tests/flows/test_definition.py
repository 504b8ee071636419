"""Reading build definitions: all mistakes at once, each with its option, its rule and its line; no secret again."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from blocks.errors import DefinitionError, Mistake
from flows.check import check
from flows.fleet.file import read_one
from flows.oxide_image.definition import OxideImageDefinition
from flows.yaml_file import option_path

HEAD = "boot_disk_image_id: debian-12\nproject: images\nssh_username: debian\n"
PLAIN = "S3CRET-in-the-clear"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def read(directory: Path, text: str | bytes) -> OxideImageDefinition:
    path = directory / "build.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    build = read_one(path, model=OxideImageDefinition).build
    assert isinstance(build, OxideImageDefinition)
    return build


def mistakes(directory: Path, text: str | bytes) -> list[Mistake]:
    with pytest.raises(DefinitionError) as caught:
        read(directory, text)
    assert PLAIN not in str(caught.value) + repr(caught.value) + repr(caught.value.mistakes)
    assert str(directory / "build.yaml") in str(caught.value)
    assert caught.value.__cause__ is None
    return list(caught.value.mistakes)


def places(found: list[Mistake]) -> list[tuple[str, int | None]]:
    return [(mistake.option, mistake.line) for mistake in found]


def test_a_good_definition(directory: Path) -> None:
    (directory / "a.sh").write_text("true\n")
    definition = read(
        directory,
        HEAD + "artifact_version: 12\nmemory: 4GiB\nssh_timeout: 1m\nprovisioners:\n- {type: shell, script: a.sh}\n",
    )
    assert definition.base == directory
    assert (definition.artifact_version, definition.memory, definition.ssh_timeout) == ("12", 4 * 2**30, 60)
    assert yaml.safe_load(definition.as_yaml())["provisioners"] == [{"type": "shell", "script": "a.sh"}]
    assert "definition_file" not in definition.as_yaml()


def test_an_option_that_stands_there_twice(directory: Path) -> None:
    found = mistakes(directory, HEAD + "cpus: 1\nprovisioners:\n- type: shell\n  type: file\ncpus: 2\n")
    assert places(found) == [("provisioners[0].type", 7), ("cpus", 8)]


def test_all_mistakes_come_at_once(directory: Path) -> None:
    text = (
        "boot_disk_image_id: debian-12\n"
        "cpus: 255\n"
        "memory: 1500MiB\n"
        "boot_disk_size: big\n"
        "ssh_timeout: soon\n"
        "artifact_name: Debian_{{timestamp}}\n"
        "name: '{{nope}}'\n"
        "hostname: a-\n"
        f"token: {PLAIN}\n"
        f"tokne: {PLAIN}\n"
    )
    found = {mistake.option: mistake for mistake in mistakes(directory, text)}
    assert {option: mistake.line for option, mistake in found.items()} == {
        "project": 1,
        "ssh_username": 1,
        "cpus": 2,
        "memory": 3,
        "boot_disk_size": 4,
        "ssh_timeout": 5,
        "artifact_name": 6,
        "name": 7,
        "hostname": 8,
        "token": 9,
        "tokne": 10,
    }
    assert found["project"].rule == "is required"
    assert found["cpus"].value == "255"
    assert "whole GiB" in found["memory"].rule
    assert "20GiB" in found["boot_disk_size"].rule
    assert "90s" in found["ssh_timeout"].rule
    assert "lower-case letters" in found["artifact_name"].rule
    assert "unknown variables: nope; there are timestamp" in found["name"].rule
    assert "{env: VARIABLE}" in found["token"].rule
    assert found["token"].value == ""
    assert found["tokne"].rule == "is no option of this builder: did you mean token?"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("zpool: big\n", "is no option of this builder"),
        ("ssh_usernam: root\n", "is no option of this builder: did you mean ssh_username?"),
        ("provisioners: [{type: shell, inlin: [echo]}]\n", "is no option of this builder: did you mean inline?"),
        ("provisioners: [{type: file, inlin: [echo]}]\n", "is no option of this builder"),
        (
            "provisioners: [{type: shell, inline: [echo], override: {web: {max_retires: 2}}}]\n",
            "is no option of this builder: did you mean max_retries?",
        ),
    ],
)
def test_an_option_that_there_is_not_is_told_the_one_like_it(directory: Path, text: str, rule: str) -> None:
    assert [mistake.rule for mistake in mistakes(directory, HEAD + text) if "no option" in mistake.rule] == [rule]


def test_mistakes_in_provisioners_have_their_own_lines(directory: Path) -> None:
    text = HEAD + (
        "provisioners:\n"  # 4
        "- type: shell\n"
        "  inline: []\n"  # 6
        "- type: shell\n"
        "  inline:\n"
        "  - echo\n"
        "  env:\n"  # 10
        "    GOOD: x\n"
        f"    MY_TOKEN: [{PLAIN}]\n"  # 12
        "    bad-name: x\n"
        "- type: magic\n"  # 14
        "- inline: [echo]\n"
        "- type: file\n"  # 16
        "  destination: /x\n"
        "- {type: reboot, timeout: never}\n"  # 18
        "- type: powershell\n"  # 19
        "- type: sleep\n"  # 20
        "  duration: 1\n"
        "  override:\n"
        "    web: {durtion: 2}\n"  # 23
        "error_cleanup_provisioner:\n"
        "  type: shell\n"
        "  inline: ['{{build.Nope}}']\n"  # 26
    )
    found = mistakes(directory, text)
    assert places(found) == [
        ("provisioners[0].inline", 6),
        ("provisioners[1].env.MY_TOKEN", 12),
        ("provisioners[1].env.MY_TOKEN", 12),
        ("provisioners[1].env.bad-name", 13),
        ("provisioners[2].type", 14),
        ("provisioners[3].type", 15),
        ("provisioners[4]", 16),
        ("provisioners[5].timeout", 18),
        ("provisioners[6].type", 19),
        ("provisioners[7].override.web.durtion", 23),
        ("error_cleanup_provisioner.inline[0]", 26),
    ]
    assert "Windows" in found[8].rule
    assert "exactly one of source, sources and content" in found[6].rule
    assert "one of" in found[4].rule


def test_files_that_are_not_there(directory: Path) -> None:
    text = HEAD + (
        "provisioners:\n- type: shell\n  script: gone.sh\n- {type: file, source: gone, destination: /x}\n"
        "error_cleanup_provisioner:\n  type: shell-local\n  scripts: [gone.sh]\n"
    )
    found = mistakes(directory, text)
    assert places(found) == [
        ("provisioners[0].script", 6),
        ("provisioners[1].source", 7),
        ("error_cleanup_provisioner.scripts[0]", 10),
    ]
    assert str(directory / "gone.sh") in found[0].rule


@pytest.mark.parametrize(
    "options",
    [
        "token: {env: T}\nprofile: p\n",
        "credentials: {block: b}\nhost: https://rack.test\n",
        "credentials: {block: b}\nhost: https://rack.test\ntoken: {env: T}\nprofile: p\n",
    ],
)
def test_credentials_in_several_ways(directory: Path, options: str) -> None:
    (mistake,) = mistakes(directory, HEAD + options)
    assert "one is enough" in mistake.rule


@pytest.mark.parametrize(
    "options",
    [
        f"token: {PLAIN}\n",
        f"token: [{PLAIN}]\n",
        f"token: {{value: {PLAIN}}}\n",
        f"token: {{env: A, file: {PLAIN}}}\n",
        f"credentials: {PLAIN}\n",
        f"credentials: {{host: h, token: {PLAIN}}}\n",
        f"password: {PLAIN}\n",
        f"provisioners: [{{type: shell, inline: [x], env: {{A: {{value: {PLAIN}}}}}}}]\n",
        f"provisioners: [{{type: shell, inline: [x], token: {PLAIN}}}]\n",
        f"provisioners: [{{type: shell, inline: [x], override: {{a: {{token: {PLAIN}}}}}}}]\n",
        f"provisioners: [{{type: shell, inline: [x], override: {{a: {{env: {{A: {{value: {PLAIN}}}}}}}}}}}]\n",
        f"error_cleanup_provisioner: {{type: shell, inline: [x], token: {PLAIN}}}\n",
        f"provisioners: {{A: {PLAIN}}}\n",
    ],
)
def test_secrets_are_never_echoed(directory: Path, options: str) -> None:
    for mistake in mistakes(directory, HEAD + options):
        assert mistake.line == 4


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        ("a: [\n", 2, "must be YAML"),
        (HEAD + "x: 'open\n", 5, "must be YAML"),
        (HEAD + "\tx: 1\n", 4, "must be YAML"),
        (HEAD + "x: !!python/object:os.system {}\n", 4, "must be YAML"),
        ("a: \x07\n", None, "must be YAML"),
        (HEAD + "artifact_version: 2026-99-99\n", None, "must be YAML"),
        ("- a\n", None, "mapping"),
        ("", None, "mapping"),
        ("just text\n", None, "mapping"),
        (b"\xff\xfe\xff", None, "UTF-8"),
    ],
)
def test_what_is_no_yaml(directory: Path, text: str | bytes, line: int | None, rule: str) -> None:
    (mistake,) = mistakes(directory, text)
    assert rule in mistake.rule
    assert (mistake.option, mistake.line) == ("file", line)


def test_a_file_that_is_not_there(directory: Path) -> None:
    with pytest.raises(DefinitionError, match="No such file"):
        read_one(directory / "gone.yaml", model=OxideImageDefinition)


@pytest.mark.parametrize(
    "name",
    ["Upper", "-x", "x-", "1x", "a_b", "a b", "ä", "x" * 64, "{{timestamp}}!", "x\n", "{{ }}", ""],
)
@pytest.mark.parametrize("option", ["artifact_name", "name", "hostname"])
def test_bad_names(option: str, name: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check(
            OxideImageDefinition,
            {"boot_disk_image_id": "x", "project": "p", "ssh_username": "u", option: name},
        )
    (mistake,) = caught.value.mistakes
    assert mistake.option == option


@pytest.mark.parametrize("name", ["x", "web-1", "{{source_name}}-{{isotime}}", "{{ build_name }}", "x" * 63])
def test_good_names(name: str) -> None:
    given = {"boot_disk_image_id": "x", "project": "p", "ssh_username": "u", "artifact_name": name}
    assert check(OxideImageDefinition, given).artifact_name == name


def test_parameters_of_a_flow_have_no_lines() -> None:
    with pytest.raises(DefinitionError) as caught:
        check(OxideImageDefinition, {"boot_disk_image_id": "x", "project": "p"})
    assert [(mistake.option, mistake.line) for mistake in caught.value.mistakes] == [("ssh_username", None)]
    assert "the flow's parameters" in str(caught.value)


@pytest.mark.parametrize("given", [None, PLAIN, 7, [PLAIN]])
def test_parameters_that_are_no_definition(given: object) -> None:
    with pytest.raises(DefinitionError) as caught:
        check(OxideImageDefinition, given)
    assert PLAIN not in str(caught.value)


def test_paths_of_options() -> None:
    assert option_path(("provisioners", 1, "env", "A")) == "provisioners[1].env.A"
