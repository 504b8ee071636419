"""Playbooks against a guest over SSH and against a jail, by the user's own ansible-playbook."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tarfile
from dataclasses import dataclass
from typing import Any

import pytest

from blocks.errors import ConnectionLost, ProvisionerFailed
from tasks.provisioners import Ansible
from tests.tasks.chroot.cellar import eventually, processes_about
from tests.tasks.provisioners.ansible.conftest import Station

pytestmark = pytest.mark.timeout(600)


def ansible(**options: Any) -> Ansible:
    return Ansible.model_validate({"type": "ansible", "playbook_file": "site.yml", **options})


SITE = """
- hosts: all
  vars: {who: "it's $HOME", long: "{{ 'x' * 70000 }}"}
  tasks:
    - copy: {src: files/blob, dest: /opt/blob, mode: "0640"}
    - template: {src: motd.j2, dest: /etc/motd}
      notify: tell
    - command: {cmd: "sh -c 'printf out; printf err >&2; exit 3'"}
      register: ran
      failed_when: ran.rc != 3 or ran.stdout != 'out' or ran.stderr != 'err'
    - become: true
      copy: {content: "{{ ansible_facts.kernel }}\\n", dest: /etc/kernel-seen}
    - fetch: {src: /opt/blob, dest: "{{ playbook_dir }}/fetched", flat: true}
    - command: {cmd: wc -c, stdin: "{{ long }}"}
      register: read
      failed_when: read.stdout | trim != '70001'
    - debug:
        msg: "{{ packer_build_name }} with {{ packer_builder_type }} as {{ ansible_user }} in {{ group_names }}"
  handlers:
    - name: tell
      copy: {content: "the handler ran", dest: /etc/handled}
"""


async def test_a_playbook_with_all_that_playbooks_have(station: Station) -> None:
    blob = bytes(range(256)) * 1000
    station.write("site.yml", SITE)
    station.write("motd.j2", "{{ who }} on {{ ansible_facts.system }}\n")
    station.write("files/blob", "").write_bytes(blob)
    bench = station.bench(PACKER_BUILD_NAME="web", PACKER_BUILDER_TYPE="oxide-instance")
    await ansible(groups=["webservers"], empty_groups=["none"]).provision(bench)
    assert "web with oxide-instance as root in ['webservers']" in station.log
    assert (station.base / "fetched").read_bytes() == blob
    assert await station.there("cat /etc/motd /etc/handled") == "it's $HOME on Linux\nthe handler ran"
    assert (await station.there("ls -l /opt/blob; cat /etc/kernel-seen; uname -r")).split()[0] == "-rw-r-----"
    assert await station.there("ls -A /tmp") == ""


FAILS = """
- hosts: all
  gather_facts: false
  tasks:
    - name: what works
      command: "true"
    - name: fetch the moon
      command: sh -c 'echo it is too far away >&2; exit 9'
"""


async def test_a_failure_carries_ansibles_own_words(guest: Station) -> None:
    guest.write("site.yml", FAILS)
    with pytest.raises(ProvisionerFailed) as caught:
        await ansible(name="moon").provision(guest.bench())
    text = str(caught.value)
    assert text.startswith("provisioner moon: ansible-playbook ended with exit code 2: its last lines were:")
    assert "TASK [fetch the moon]" in text
    assert "it is too far away" in text
    assert "TASK [what works]" not in text
    assert "PLAY RECAP" not in text
    assert await guest.there("ls -A /tmp") == ""


async def test_a_playbook_that_is_none(guest: Station) -> None:
    guest.write("site.yml", "- hosts: all\n  tasks: {")
    with pytest.raises(ProvisionerFailed, match=r"(?s)exit code \d+.*site\.yml"):
        await ansible().provision(guest.bench())


async def test_a_system_without_python(guest: Station) -> None:
    guest.write("site.yml", "- hosts: all\n")
    await guest.there("rm /usr/bin/python3*")
    with pytest.raises(ProvisionerFailed, match=r"(?s)→ The system that is being made has no Python.*install it first"):
        await ansible().provision(guest.bench())


LONG = """
- hosts: all
  gather_facts: false
  tasks:
    - raw: sleep {seconds}
"""


@dataclass(frozen=True)
class Playbook:
    """A playbook in the middle of a command. Other tests have theirs at the same time: each is told by its number."""

    running: asyncio.Task[None]
    number: int

    def here(self) -> list[str]:
        return processes_about(f"mine={self.number}")

    def there(self) -> list[str]:
        return processes_about(f"sleep {self.number}")


async def begun(station: Station) -> Playbook:
    number = random.SystemRandom().randrange(10**6, 10**9)
    station.write("site.yml", LONG.format(seconds=number))
    running = asyncio.create_task(ansible(extra_arguments=["-e", f"mine={number}"]).provision(station.bench()))
    playbook = Playbook(running, number)
    async with asyncio.timeout(120):
        while not playbook.there():
            assert not running.done(), running.result()
            await asyncio.sleep(0.05)
    return playbook


async def test_a_cancelled_run_leaves_no_process_anywhere(station: Station) -> None:
    playbook = await begun(station)
    await eventually(lambda: len(playbook.here()) > 1, 30)  # a worker among them
    playbook.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playbook.running
    assert playbook.here() == []
    await eventually(lambda: playbook.there() == [], 30)
    assert await station.there("ls -A /tmp") == ""


async def test_a_connection_that_breaks(guest: Station) -> None:
    playbook = await begun(guest)
    guest.communicator.close()  # type: ignore[attr-defined]
    with pytest.raises(ConnectionLost) as caught:
        await playbook.running
    assert "UNREACHABLE" in str(caught.value.__cause__)
    assert playbook.here() == []


TWO = """
- hosts: all
  gather_facts: false
  tasks:
    - raw: echo one
    - local_action: {module: file, path: "{{ lookup('env', 'BAKERY_ANSIBLE_SOCKET') }}", state: absent}
    - raw: echo two
"""


async def test_a_socket_that_is_gone(guest: Station) -> None:
    guest.write("site.yml", TWO)
    with pytest.raises(ProvisionerFailed, match="the build that runs this playbook does not answer"):
        await ansible().provision(guest.bench())


PARALLEL = """
- hosts: all
  gather_facts: false
  tasks:
    - command: sh -c 'echo {{ item }}; exec sleep 1'
      async: 120
      poll: 0
      loop: [a, b, c]
      register: started
    - async_status: {jid: "{{ item.ansible_job_id }}"}
      loop: "{{ started.results }}"
      register: ended
      until: ended is finished
      retries: 200
      delay: 1
    - debug: {msg: "they said {{ ended.results | map(attribute='stdout') | join('') }}"}
    - {debug: {msg: "at home: {{ lookup('env', 'HOME') }}"}, delegate_to: localhost}
"""


async def test_tasks_in_the_background(guest: Station) -> None:
    guest.write("site.yml", PARALLEL)
    await ansible().provision(guest.bench())
    assert "they said abc" in guest.log


INVENTORY = """
[web]
oven ansible_host=192.0.2.1 colour=red
other ansible_host=192.0.2.2
"""


async def test_an_inventory_of_ones_own_with_requirements(guest: Station) -> None:
    guest.write("site.yml", "- hosts: web\n  gather_facts: false\n  roles: [painter]\n")
    guest.write("hosts", INVENTORY)
    guest.write("group_vars/web.yml", "thing: door")
    role = guest.base / "painter.tar.gz"
    guest.write(
        "painter/meta/main.yml", "galaxy_info: {author: a, description: d, license: MIT, min_ansible_version: '2'}"
    )
    guest.write("painter/tasks/main.yml", "- raw: echo the {{ thing }} is {{ colour }} > /etc/painted\n")
    with tarfile.open(role, "w:gz") as archive:
        archive.add(guest.base / "painter", "painter")
    shutil.rmtree(guest.base / "painter")
    guest.write("requirements.yml", json.dumps({"roles": [{"name": "painter", "src": f"file://{role}"}]}))
    await ansible(
        inventory_file="hosts", host_alias="oven", galaxy_file="requirements.yml", roles_path="roles"
    ).provision(guest.bench())
    assert await guest.there("cat /etc/painted") == "the door is red"
    assert "other" not in guest.log
