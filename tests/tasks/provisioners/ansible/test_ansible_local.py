"""Playbooks inside the guest, by an Ansible that is there."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.errors import ProvisionerFailed
from tasks.provisioners import AnsibleLocal
from tests.tasks.provisioners.ansible.conftest import Station
from tests.tasks.provisioners.ansible.here import ThisHost

pytestmark = pytest.mark.timeout(600)


def local(**options: Any) -> AnsibleLocal:
    return AnsibleLocal.model_validate({"type": "ansible-local", **options})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "exactly one of playbook_file and playbook_files"),
        ({"playbook_file": "a", "playbook_files": ["b"]}, "exactly one of playbook_file and playbook_files"),
        ({"playbook_files": []}, "at least 1 item"),
        ({"playbook_file": "a", "inventory_file": "b", "inventory_groups": ["c"]}, "give one"),
        ({"playbook_file": "a", "staging_directory": "relative"}, "pattern"),
        ({"playbook_file": "a", "staging_directory": "/opt", "clean_staging_directory": True}, "top-level"),
        ({"playbook_file": "a", "staging_directory": "/opt/../x/", "clean_staging_directory": True}, "top-level"),
        ({"playbook_file": "a", "inventory_groups": ["x]\n[y"]}, "pattern"),
    ],
)
def test_mistakes(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        local(**options)
    assert says in str(caught.value)


def test_what_is_not_here_is_said_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    provisioner = local(
        playbook_files=["a.yml"], playbook_dir="d", role_paths=["r"], galaxy_file="g", collection_paths=["plain", "c"]
    )
    found = {mistake.option: mistake.rule for mistake in provisioner.missing_here(tmp_path, "p")}
    assert sorted(found) == [
        *("p.collection_paths[0]", "p.collection_paths[1]", "p.galaxy_file", "p.playbook_dir", "p.playbook_files[0]"),
        "p.role_paths[0]",
    ]
    assert "ansible_collections" in found["p.collection_paths[0]"]


PROGRAM = r"""#!/bin/sh
printf '%s\n' "$(basename "$0")" "$@" "$PWD" "" >> "$(dirname "$0")/argv"
"""


class Bench(Station):
    """This host as the system, with programs that write down what they are started with."""

    def __init__(self, base: Path) -> None:
        super().__init__(ThisHost(), base)
        self.staging = base.parent / "staging" / "here"
        for name in ("ansible-playbook", "ansible-galaxy"):
            self.write(f"bin/{name}", PROGRAM).chmod(0o755)

    async def run(self, **options: Any) -> None:
        provisioner = local(
            **{
                "command": f"X=1 {self.base}/bin/ansible-playbook",
                "galaxy_command": f"{self.base}/bin/ansible-galaxy",
                "staging_directory": str(self.staging),
                **options,
            }
        )
        assert provisioner.missing_here(self.base, "p") == []
        await provisioner.provision(self.bench(PACKER_BUILD_NAME="web", PACKER_BUILDER_TYPE="oxide-instance"))

    @property
    def argv(self) -> list[list[str]]:
        return [part.split("\n") for part in (self.base / "bin/argv").read_text().removesuffix("\n\n").split("\n\n")]

    @property
    def tree(self) -> list[str]:
        return sorted(str(path.relative_to(self.staging)) for path in self.staging.rglob("*") if path.is_file())


@pytest.fixture
def station(base: Path) -> Bench:
    return Bench(base)


async def test_everything_has_its_place_there(station: Bench) -> None:
    for name in ("all/templates/a.j2", "all/play/one.yml", "two.yml", "other/x.yml", "r/web/tasks/main.yml"):
        station.write(name, "[]")
    for name in ("gv/all.yml", "hv/127.0.0.1.yml", "c/ansible_collections/ns/name/galaxy.yml"):
        station.write(name, "{}")
    await station.run(
        playbook_dir="all",
        playbook_files=["all/play/one.yml", "two.yml"],
        playbook_paths=["other"],
        role_paths=["r/web"],
        collection_paths=["c"],
        group_vars="gv",
        host_vars="hv/",
        inventory_groups=["web", "db"],
        extra_arguments=["--extra-vars \"a='b c'\"", "--tags=x"],
    )
    assert station.tree == [
        *("collections/ansible_collections/ns/name/galaxy.yml", "group_vars/all.yml", "host_vars/127.0.0.1.yml"),
        *("image-bakery-inventory", "play/one.yml", "playbooks/other/x.yml", "roles/web/tasks/main.yml"),
        *("templates/a.j2", "two.yml"),
    ]
    assert (station.staging / "image-bakery-inventory").read_text() == "[web]\n127.0.0.1\n[db]\n127.0.0.1\n"
    there = str(station.staging)
    variables = '{"packer_build_name": "web", "packer_builder_type": "oxide-instance"}'
    words = ["--extra-vars", variables, "--extra-vars", "a='b c'", "--tags=x"]
    words += ["-c", "local", "-i", f"{there}/image-bakery-inventory", there]
    assert station.argv == [
        ["ansible-playbook", f"{there}/{playbook}", *words] for playbook in ("play/one.yml", "two.yml")
    ]


async def test_one_playbook_stands_at_the_top(station: Bench) -> None:
    station.write("deep/site.yml", "[]")
    station.write("hosts", "oven ansible_connection=local")
    station.write("req.yml", "roles: []\ncollections: []")
    await station.run(playbook_file="deep/site.yml", inventory_file="hosts", galaxy_file="req.yml")
    assert station.tree == ["hosts", "req.yml", "site.yml"]
    there = str(station.staging)
    assert station.argv[:2] == [
        ["ansible-galaxy", kind, "install", "-r", f"{there}/req.yml", "-p", f"{there}/{kind}s", there]
        for kind in ("role", "collection")
    ]
    assert station.argv[2][1] == f"{there}/site.yml"


@pytest.mark.parametrize(
    ("options", "stays"), [({}, True), ({"clean_staging_directory": True}, False), ({"staging_directory": None}, None)]
)
async def test_the_staging_directory(station: Bench, options: dict[str, Any], stays: bool | None) -> None:
    station.write("site.yml", "[]")
    await station.run(playbook_file="site.yml", **options)
    assert station.staging.exists() is bool(stays)
    if stays is None:
        staging = Path(station.argv[0][-1])
        assert staging.name.startswith("ansible-local-")
        assert not staging.exists()


SITE = """
- hosts: ovens
  roles: [heat]
  tasks:
    - copy: {content: "{{ degrees }} in {{ packer_build_name }}", dest: /etc/heated}
    - {command: "sh -c 'echo too hot >&2; exit 5'", when: degrees > 300}
"""


async def test_a_real_run_in_the_guest(guest: Station) -> None:
    spec = importlib.util.find_spec("ansible")
    assert spec is not None
    packages = Path(str(spec.origin)).parents[1]
    there = (await guest.there("python3 -c 'import sys; print(sys.prefix, *sys.version_info[:2])'")).split()
    site = f"{there[0]}/lib/python{there[1]}.{there[2]}/site-packages"
    names = (
        "ansible",
        "ansible_core-*.dist-info",
        "jinja2",
        "jinja2-3*.dist-info",
        "markupsafe",
        "yaml",
        "packaging",
        "resolvelib",
    )
    await guest.there(f"mkdir -p {site}")
    for name in names:
        for directory in packages.glob(name):
            await guest.communicator.upload_directory(directory, f"{site}/{directory.name}")
    program = b"#!/usr/bin/python3\nfrom ansible.cli.playbook import main\nmain()\n"
    await guest.communicator.upload(program, "/usr/bin/ansible-playbook", 0o755)

    guest.write("site.yml", SITE)
    guest.write("roles/heat/tasks/main.yml", "- raw: echo heating > /etc/heating\n")
    guest.write("gv/ovens.yml", json.dumps({"degrees": 200}))
    options = {
        "playbook_file": "site.yml", "inventory_groups": ["ovens"], "role_paths": ["roles/heat"], "group_vars": "gv"
    }  # fmt: skip
    bench = guest.bench(PACKER_BUILD_NAME="web")
    await local(**options).provision(bench)
    assert await guest.there("cat /etc/heating /etc/heated") == "heating\n200 in web"
    with pytest.raises(ProvisionerFailed, match=r"(?s)Ansible ended with exit code 2.*too hot"):
        await local(**options, extra_arguments=["-e degrees=400"]).provision(bench)
    assert await guest.there("ls -A /tmp") == ""


async def test_a_command_that_is_not_there(guest: Station) -> None:
    guest.write("site.yml", "[]")
    with pytest.raises(ProvisionerFailed, match="has no Ansible"):
        await local(playbook_file="site.yml").provision(guest.bench())
    with pytest.raises(ProvisionerFailed, match=r"has no Ansible.*no-such-ansible"):
        await local(playbook_file="site.yml", command="no-such-ansible").provision(guest.bench())
    assert await guest.there("ls -A /tmp") == ""
