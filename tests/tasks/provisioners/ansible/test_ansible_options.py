"""What `ansible-playbook` and `ansible-galaxy` are started with, by programs that write it down."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from blocks.errors import CommunicatorError, ProvisionerFailed
from tasks import masking
from tasks.masking import keep_secret
from tasks.provisioners import Ansible, Provisioner
from tests.tasks.provisioners.ansible.conftest import Station
from tests.tasks.provisioners.ansible.here import ThisHost


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_texts", set())


def ansible(**options: Any) -> Ansible:
    return Ansible.model_validate({"type": "ansible", "playbook_file": "site.yml", **options})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"playbook_file": ""}, "at least 1 character"),
        ({"inventory_file": "hosts"}, "needs host_alias"),
        ({"inventory_file": "hosts", "host_alias": "a", "inventory_directory": "d"}, "takes the place of"),
        ({"inventory_file_template": "{{ .HostAlias }} {{ .Password }}"}, "not Password"),
        ({"host_alias": "two words"}, "pattern"),
        ({"groups": ["a]\n[b"]}, "pattern"),
        ({"ansible_env_vars": ["NO_VALUE"]}, "must be NAME=VALUE"),
        ({"ansible_env_vars": {"not-a-name": "x"}}, "pattern"),
        ({"playbok": "x"}, "not permitted"),
    ],
)
def test_mistakes(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ansible(**options)
    assert says in str(caught.value)


def test_what_is_not_here_is_said_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    provisioner = ansible(
        inventory_file="hosts", host_alias="web", galaxy_file="req.yml", command="no-such-ansible", galaxy_command="./g"
    )
    found = {mistake.option: mistake.rule for mistake in provisioner.missing_here(tmp_path, "provisioners[2]")}
    assert list(found) == [
        f"provisioners[2].{name}"
        for name in ("playbook_file", "inventory_file", "galaxy_file", "command", "galaxy_command")
    ]
    assert "pipx install" in found["provisioners[2].command"]
    (tmp_path / "site.yml").touch()
    # Ansible is in the environment of the Python that runs this, though that is not on PATH.
    assert ansible().missing_here(tmp_path, "p") == []


PROGRAM = r"""#!/bin/sh
{
    printf '%s\n' "$(basename "$0")"; for word; do printf '%s\n' "$word"; done; echo
} >> "$SEEN/argv"
env > "$SEEN/env"
pwd > "$SEEN/cwd"
while [ $# -gt 0 ]; do
    if [ "$1" = --inventory ]; then cat "$2" >> "$SEEN/inventory"; ls -d "$2" >> "$SEEN/where"; fi
    shift
done
stat -c %a "$(dirname "$BAKERY_ANSIBLE_SOCKET")" > "$SEEN/private" 2>&1
echo "it says $TOKEN"
exit "${CODE:-0}"
"""


class Bench(Station):
    """A definition's directory whose programs write down what they are started with."""

    def __init__(self, base: Path) -> None:
        super().__init__(ThisHost(), base)
        self.seen = base.parent / "seen"
        self.seen.mkdir()
        self.write("site.yml", "[]")
        for name in ("ansible-playbook", "ansible-galaxy"):
            self.write(f"bin/{name}", PROGRAM).chmod(0o755)

    async def run(self, **options: Any) -> None:
        environment = {"SEEN": str(self.seen), **options.pop("ansible_env_vars", {})}
        provisioner = ansible(
            command="bin/ansible-playbook",
            galaxy_command="bin/ansible-galaxy",
            ansible_env_vars=environment,
            **options,
        )
        await provisioner.provision(self.bench(PACKER_BUILD_NAME="web", PACKER_BUILDER_TYPE="oxide-instance"))

    def read(self, name: str) -> str:
        return (self.seen / name).read_text()

    @property
    def argv(self) -> list[list[str]]:
        return [part.split("\n") for part in self.read("argv").removesuffix("\n\n").split("\n\n")]

    @property
    def environment(self) -> dict[str, str]:
        return dict(line.partition("=")[::2] for line in self.read("env").splitlines())


@pytest.fixture
def station(base: Path) -> Bench:
    return Bench(base)


async def test_a_generated_inventory(station: Bench) -> None:
    await station.run(groups=["web", "db"], empty_groups=["none"], extra_arguments=["-e", "a='b c' $(d)", "--tags=x"])
    ((program, *words),) = station.argv
    assert program == "ansible-playbook"
    assert words[:2] == ["--extra-vars", '{"packer_build_name": "web", "packer_builder_type": "oxide-instance"}']
    assert words[4:] == ["-e", "a='b c' $(d)", "--tags=x", str(station.base / "site.yml")]
    assert station.read("inventory") == (
        "default ansible_connection=bakery ansible_user=root\n[web]\ndefault\n[db]\ndefault\n[none]\n"
    )
    assert station.read("cwd").strip() == str(station.base)
    assert station.read("private").strip() == "700"
    assert not Path(words[3]).exists()


async def test_a_template_of_the_host_line(station: Bench) -> None:
    await station.run(
        host_alias="oven",
        user="someone",
        inventory_file_template="{{ .HostAlias }} ansible_host={{ .Host }} ansible_user={{.User}} x={{ .Port }}",
    )
    assert station.read("inventory").splitlines() == [
        "oven ansible_connection=bakery ansible_user=someone",
        "oven ansible_host=127.0.0.1 ansible_user=someone x=22",
    ]
    assert "! Commands run as root, though ansible_user says someone" in station.said


async def test_an_inventory_directory_holds_the_inventory_for_a_while(station: Bench) -> None:
    station.write("inventory/group_vars/all.yml", "a: b")
    await station.run(inventory_directory="inventory")
    assert Path(station.read("where").strip()).parent == station.base / "inventory"
    assert [path.name for path in (station.base / "inventory").iterdir()] == ["group_vars"]


@pytest.mark.parametrize("limit", [["--limit", "x"], ["--limit=x"], ["-lx"], ["-l", "x"]])
async def test_an_inventory_of_ones_own(station: Bench, limit: list[str]) -> None:
    station.write("hosts", "oven ansible_host=192.0.2.1\nother ansible_host=192.0.2.2\n")
    await station.run(inventory_file="hosts", host_alias="oven")
    await station.run(inventory_file="hosts", host_alias="oven", extra_arguments=limit)
    first, second = station.argv
    # What is said last of a host counts.
    assert first[first.index("--inventory") + 1] == str(station.base / "hosts")
    assert station.read("inventory").splitlines()[2] == "oven ansible_connection=bakery ansible_user=root"
    assert first[first.index("--limit") + 1] == "oven,localhost"
    assert "oven,localhost" not in second


async def test_the_environment_has_none_of_the_builds_secrets(station: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OXIDE_TOKEN", "OSC_SECRET_KEY", "OUTSCALE_SECRETKEYID", "PREFECT_API_KEY", "IMAGE_BAKERY_X"):
        monkeypatch.setenv(name, "ours")
    keep_secret(SecretStr("of another provisioner"))
    monkeypatch.setenv("SOMEWHERE", "of another provisioner")
    monkeypatch.setenv("OVEN_SECRET", "hunter22")
    monkeypatch.setenv("THEIRS", "kept")
    await station.run(ansible_env_vars={"TOKEN": {"env": "OVEN_SECRET"}, "ANSIBLE_NOCOLOR": "0"})
    seen = station.environment
    assert not [name for name in seen if name.startswith(("OXIDE", "OSC", "OUTSCALE", "PREFECT", "IMAGE_BAKERY"))]
    assert not {"SOMEWHERE", "OVEN_SECRET"} & seen.keys()
    assert (seen["TOKEN"], seen["THEIRS"], seen["ANSIBLE_NOCOLOR"]) == ("hunter22", "kept", "0")
    assert (seen["ANSIBLE_RETRY_FILES_ENABLED"], seen["PACKER_BUILD_NAME"]) == ("0", "web")
    assert "it says ********" in station.said
    assert "hunter22" not in station.log
    assert "hunter22" not in station.read("argv")


async def test_an_environment_as_packer_has_it_and_connection_plugins_of_ones_own(station: Bench) -> None:
    provisioner = ansible(
        command="bin/ansible-playbook",
        ansible_env_vars=[f"SEEN={station.seen}", "A=b=c", "ANSIBLE_CONNECTION_PLUGINS=/opt/own"],
    )
    await provisioner.provision(station.bench())
    assert station.environment["A"] == "b=c"
    assert station.environment["ANSIBLE_CONNECTION_PLUGINS"].startswith("/opt/own:/")


@pytest.mark.parametrize(
    ("requirements", "installs"),
    [
        ("- src: a", ["role"]),
        ("roles: [a]\ncollections: [b]", ["role", "collection"]),
        ("collections: [b]", ["collection"]),
    ],
)
async def test_requirements(station: Bench, requirements: str, installs: list[str]) -> None:
    station.write("req.yml", requirements)
    await station.run(galaxy_file="req.yml", roles_path="r", collections_path="c", galaxy_force_install=True)
    paths = {"role": station.base / "r", "collection": station.base / "c"}
    assert station.argv[:-1] == [
        ["ansible-galaxy", kind, "install", "-r", str(station.base / "req.yml"), "-p", str(paths[kind]), "--force"]
        for kind in installs
    ]
    assert station.argv[-1][0] == "ansible-playbook"
    assert station.environment["ANSIBLE_ROLES_PATH"] == str(paths["role"])
    assert station.environment["ANSIBLE_COLLECTIONS_PATH"] == str(paths["collection"])


async def test_requirements_that_fail_end_it(station: Bench) -> None:
    station.write("req.yml", "- src: a")
    with pytest.raises(ProvisionerFailed, match="ansible-galaxy ended with exit code 5"):
        await station.run(galaxy_file="req.yml", ansible_env_vars={"CODE": "5"})
    assert len(station.argv) == 1


INERT = {"use_proxy": False, "local_port": 2222, "sftp_command": "/usr/lib/sftp-server -e", "use_sftp": True}


async def test_what_has_nothing_to_do_here_is_taken_with_a_warning(station: Bench) -> None:
    await station.run(**INERT)
    assert "! use_proxy does nothing here: Ansible uses the build's own connection" in station.log
    assert [line.split()[1] for line in station.said if "does nothing" in line] == sorted(INERT)


def test_what_has_nothing_to_do_passes_the_schema_and_is_not_in_the_form() -> None:
    schema = TypeAdapter(Provisioner).json_schema()
    given = {"type": "ansible", "playbook_file": "site.yml", **INERT}
    jsonschema.Draft202012Validator(schema).validate(given)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({**given, "use_prox": False})
    assert not INERT.keys() & schema["$defs"]["Ansible"]["properties"].keys()
    json.dumps(schema)


async def test_a_playbook_that_is_for_no_host_here_is_no_quiet_success(station: Bench) -> None:
    await station.run(groups=["web"])
    assert any("did nothing to the system" in line and "default or its groups (web)" in line for line in station.said)


async def test_a_program_that_cannot_be_started(station: Bench) -> None:
    station.write("bin/ansible-playbook", "#!/no/such/interpreter\n").chmod(0o755)
    with pytest.raises(CommunicatorError, match=r"this host: could not start .*ansible-playbook"):
        await station.run()


async def test_a_long_name_of_the_temporary_directory(
    station: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    await station.run()
    assert len(os.fsencode(station.environment["BAKERY_ANSIBLE_SOCKET"])) < 108
    assert shlex.split(station.read("private")) == ["700"]
