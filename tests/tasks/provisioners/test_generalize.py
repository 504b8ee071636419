"""What `generalize` says of what its script says; what the script does is shown in a jail and in Debian."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.errors import ProvisionerFailed
from tasks.provisioners import Generalize
from tests.tasks.provisioners.ansible.conftest import Station
from tests.tasks.provisioners.support import FakeGuest


async def test_what_is_switched_off_is_not_asked_for(tmp_path: Path) -> None:
    guest = FakeGuest()
    await Generalize(type="generalize", logs=False, ssh_host_keys=False).provision(Station(guest, tmp_path).bench())
    (command,) = guest.commands
    assert "package_caches cloud_init shell_history dhcp_leases random_seed temporary_files machine_id" in command


async def test_what_was_done_and_what_was_not(tmp_path: Path) -> None:
    station = Station(FakeGuest(says=[b"did logs: 3 files\nwarn keys: kept\nsh: what", b" is this?\n"]), tmp_path)
    await Generalize(type="generalize").provision(station.bench())
    assert station.said == ["logs: 3 files", "! keys: kept", "! sh: what is this?"]


async def test_who_may_not_be_root(tmp_path: Path) -> None:
    guest = FakeGuest(1, [b"sudo: a password is required\n"])
    with pytest.raises(ProvisionerFailed, match=r"(?s)exit code 1: sudo: a password is required.*→ It takes root's"):
        await Generalize(type="generalize").provision(Station(guest, tmp_path).bench())
