"""`generalize` in Debian: in a jail, over SSH by sudo, and that what was made of it boots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.errors import CannotConnect, ProvisionerFailed
from emulators.machines.qemu import QemuMachine, QemuMachines
from tasks.communicator import must
from tasks.provisioners import Generalize
from tasks.ssh.guest import SshGuest
from tasks.ssh.plan import Credentials, LogInPlan, OfferedKey
from tests.emulators.machines.support import GIB, Guest
from tests.tasks.provisioners.ansible.conftest import Station
from tests.tasks.provisioners.generalize_dirt import EMPTIED, FILES, KEPT, soiled

pytestmark = pytest.mark.timeout(600)

UNIT = "image-bakery-ssh-host-keys.service"
KEYS = "ls /etc/ssh | grep -c ssh_host_ || true"


async def test_all_of_it(debian: Station) -> None:
    await debian.there("useradd -m baker")
    await debian.there(soiled())
    await debian.there(
        "echo 0123 > /etc/machine-id; rm -f /var/lib/dbus/machine-id; echo 0123 > /var/lib/dbus/machine-id;"
        "ssh-keygen -A > /dev/null; mkdir -p /var/lib/cloud/instances/i-1/sem /var/lib/cloud/scripts/per-boot"
        " /var/lib/cloud/seed/nocloud; touch /var/lib/cloud/seed/nocloud/meta-data;"
        "ln -s instances/i-1 /var/lib/cloud/instance; echo true > /var/lib/cloud/scripts/per-boot/own;"
        "echo old > /var/log/cloud-init.log; chmod 640 /var/log/cloud-init.log"
    )
    await Generalize(type="generalize").provision(debian.bench())
    paths = " ".join(f"'{path}'" for files in FILES.values() for path in [*files, EMPTIED])
    assert await debian.there(f'for file in {paths}; do if [ -s "$file" ]; then echo "$file"; fi; done') == ""
    await debian.there("ls -d " + " ".join(f"'{path}'" for path in KEPT))
    assert (
        await debian.there("stat -c %s /etc/machine-id; ls /var/lib/dbus; ls -A /var/lib/cloud") == "0\nscripts\nseed"
    )
    assert await debian.there("cat /var/lib/cloud/scripts/per-boot/own") == "true"
    assert await debian.there(KEYS) == "0"
    keys = next(line for line in debian.said if line.startswith("SSH host keys"))
    assert keys == "SSH host keys: 6 files removed; cloud-init makes new ones at the next boot"
    assert "cloud-init: its state was reset by cloud-init clean, so that the next boot is a first one" in debian.said
    assert not [line for line in debian.said if line.startswith("!")]
    assert not await debian.there(f"ls /etc/systemd/system | grep {UNIT} || true")


@pytest.mark.parametrize("why", ["touch /etc/cloud/cloud-init.disabled", "rm /usr/bin/cloud-init"])
async def test_without_cloud_init_a_unit_makes_the_host_keys(debian: Station, why: str) -> None:
    await debian.there(f"ssh-keygen -A > /dev/null; {why}")
    await Generalize(type="generalize").provision(debian.bench())
    assert await debian.there(KEYS) == "0"
    assert await debian.there(f"systemctl is-enabled {UNIT}; systemd-analyze verify {UNIT} 2>&1 || true") == "enabled"
    # The unit that it made is known the next time.
    await debian.there("ssh-keygen -A > /dev/null")
    debian.said.clear()
    await Generalize(type="generalize").provision(debian.bench())
    assert f"SSH host keys: 6 files removed; {UNIT} makes new ones at the next boot" in debian.said


async def test_host_keys_stay_where_nothing_makes_new_ones(debian: Station) -> None:
    await debian.there("ssh-keygen -A > /dev/null; rm /usr/bin/cloud-init /usr/lib/systemd/systemd")
    await Generalize(type="generalize").provision(debian.bench())
    assert await debian.there(KEYS) == "6"
    assert "! SSH host keys: kept, because nothing here would make new ones at the next boot" in debian.said


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("/lib/systemd/system/sshd.service", "Wants=sshd-keygen.target"),
        ("/lib/systemd/system/sshd.service", "Wants=sshdgenkeys.service"),
        ("/lib/systemd/system/ssh.service.d/keys.conf", "ExecStartPre=/usr/sbin/sshd-gen-keys-start"),
    ],
)
async def test_services_that_make_their_own(debian: Station, file: str, text: str) -> None:
    await debian.there(f"ssh-keygen -A > /dev/null; rm /usr/bin/cloud-init; mkdir -p $(dirname {file})")
    await debian.there(f"printf '[Unit]\\n# no ssh-keygen\\n{text}\\n' > {file}")
    await Generalize(type="generalize").provision(debian.bench())
    assert await debian.there(KEYS) == "0"
    assert any(line.startswith("SSH host keys: 6 files removed; ssh") for line in debian.said)


async def test_by_sudo_and_the_connection_stands(cook: Station, debian: Station) -> None:
    await debian.there("echo 0123 > /etc/machine-id")
    await Generalize(type="generalize").provision(cook.bench())
    assert await cook.there("id -un; cat /etc/machine-id") == "cook"
    assert await debian.there(KEYS) == "0"
    await debian.there("rm /etc/sudoers.d/cook")
    with pytest.raises(ProvisionerFailed, match="password is required"):
        await Generalize(type="generalize").provision(cook.bench())


@pytest.fixture
async def booted(master: Path, tmp_path: Path) -> AsyncIterator[tuple[QemuMachine, Guest, SshGuest]]:
    plan = Guest(tmp_path)
    machines = QemuMachines("tcg", plan.address.port)
    await machines.copy_disk(master, tmp_path / "disk.raw", 4 * GIB)
    machine = machines.machine("one")
    await machine.power_on(replace(plan.spec(), memory=GIB, cpus=2))
    credentials = Credentials("debian", (OfferedKey("the key", plan.key.private),))
    guest = SshGuest(LogInPlan(plan.address.host, credentials, plan.address.port))
    yield machine, plan, guest
    guest.close()
    await machine.power_off()


async def connect(guest: SshGuest, machine: QemuMachine) -> None:
    try:
        await guest.connect(1500)
    except CannotConnect as error:
        error.add_note(machine.serial.read(0, 1 << 20)[-4000:].decode(errors="replace"))
        raise


IDENTITY = "sudo cat /etc/machine-id; cat /etc/ssh/ssh_host_ed25519_key.pub"


@pytest.mark.slow
@pytest.mark.timeout(6000)
@pytest.mark.parametrize("cloud_init", [True, False])
async def test_what_was_generalized_boots_as_another_machine(
    booted: tuple[QemuMachine, Guest, SshGuest], tmp_path: Path, *, cloud_init: bool
) -> None:
    machine, plan, guest = booted
    await connect(guest, machine)
    before = await must(guest, IDENTITY, what="look")
    if not cloud_init:
        await must(guest, "sudo touch /etc/cloud/cloud-init.disabled", what="disable cloud-init")
    station = Station(guest, tmp_path)
    await Generalize(type="generalize").provision(station.bench())
    assert any(("cloud-init makes" if cloud_init else UNIT) in line for line in station.said)
    assert not [line for line in station.said if line.startswith("!")]
    # The journal is no longer on the disk, and nothing is written to it until the next boot.
    assert (
        await must(guest, "sudo ls -A /var/log/journal 2>/dev/null || true; sudo wc -c < /etc/machine-id", what="look")
        == "0"
    )
    await guest.run("sudo poweroff", lambda _: None)
    guest.close()
    await asyncio.wait_for(machine.wait_off(), 900)

    spec = plan.spec()
    await machine.power_on(replace(spec, memory=GIB, cpus=2, cloud_init=replace(spec.cloud_init, instance_id="iid-2")))
    again = SshGuest(guest.plan)
    await connect(again, machine)
    try:
        after = await must(again, IDENTITY, what="look")
        failed = await must(again, "systemctl list-units --failed --plain --no-legend", what="look for failures")
    finally:
        again.close()
    assert failed == ""
    for old, new in zip(before.split(), after.split(), strict=True):
        if old != "ssh-ed25519" and "@" not in old:
            assert old != new
