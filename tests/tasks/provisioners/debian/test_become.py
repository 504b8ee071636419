"""Playbooks that become root, or someone else, by a real sudo."""

from __future__ import annotations

import pytest

from blocks.errors import ProvisionerFailed
from tasks.communicator import must
from tasks.provisioners import Ansible, AnsibleLocal
from tests.tasks.provisioners.ansible.conftest import Station
from tests.tasks.provisioners.debian.conftest import SUDO_PASSWORD

pytestmark = pytest.mark.timeout(600)

SITE = """
- hosts: all
  become: true
  tasks:
    - copy: {content: "{{ ansible_facts.user_id }} {{ ansible_user }}", dest: /etc/by-root}
    - {command: id -un, register: other, become_user: games}
    - {command: id -un, register: plain, become: false}
    - copy: {content: "{{ other.stdout }} {{ plain.stdout }}", dest: /etc/by-others, mode: "0600"}
"""


@pytest.mark.parametrize("pipelining", ["1", "0"])
async def test_a_user_becomes_root_by_sudo(cook: Station, debian: Station, pipelining: str) -> None:
    cook.write("site.yml", SITE)
    # Without pipelining another user reads modules from files, which a chroot without ACLs has to be told to allow.
    environment = {"ANSIBLE_PIPELINING": pipelining, "ANSIBLE_SHELL_ALLOW_WORLD_READABLE_TEMP": "1"}
    await Ansible(type="ansible", playbook_file="site.yml", ansible_env_vars=environment).provision(cook.bench())
    assert await debian.there("cat /etc/by-root; echo; cat /etc/by-others") == "root cook\ngames cook"
    assert await cook.there("ls -A /tmp") == ""


async def test_a_password_for_sudo(cook: Station, debian: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    await must(
        debian.communicator,
        f"echo 'cook:{SUDO_PASSWORD}' | chpasswd; echo 'cook ALL=(ALL) ALL' > /etc/sudoers.d/cook",
        what="ask for a password",
    )
    monkeypatch.setenv("OVEN_SECRET", SUDO_PASSWORD)
    monkeypatch.setenv("OVEN_WRONG", "no such word")
    cook.write("site.yml", SITE)
    password = ["-e", "ansible_become_pass={{ lookup('env', 'SUDO') }}"]

    def ansible(variable: str, arguments: list[str]) -> Ansible:
        return Ansible.model_validate(
            {
                "type": "ansible",
                "playbook_file": "site.yml",
                "ansible_env_vars": {
                    "SUDO": {"env": variable},
                    "ANSIBLE_SHELL_ALLOW_WORLD_READABLE_TEMP": "1",
                },
                "extra_arguments": arguments,
            }
        )

    await ansible("OVEN_SECRET", password).provision(cook.bench())
    assert await debian.there("cat /etc/by-root; echo; cat /etc/by-others") == "root cook\ngames cook"
    with pytest.raises(ProvisionerFailed, match="Incorrect sudo password"):
        await ansible("OVEN_WRONG", password).provision(cook.bench())
    with pytest.raises(ProvisionerFailed, match="Missing sudo password"):
        await ansible("OVEN_SECRET", []).provision(cook.bench())
    assert SUDO_PASSWORD not in cook.log


async def test_ansible_local_where_there_is_no_ansible(debian: Station) -> None:
    debian.write("site.yml", "- hosts: all\n")
    for options in ({}, {"command": "sudo -n ansible-playbook"}):
        with pytest.raises(ProvisionerFailed, match=r"(?s)has no Ansible.*→ Install it first") as caught:
            await AnsibleLocal.model_validate(
                {"type": "ansible-local", "playbook_file": "site.yml", **options}
            ).provision(debian.bench())
        assert "ansible-playbook" in str(caught.value)
    assert await debian.there("ls -A /tmp") == ""
