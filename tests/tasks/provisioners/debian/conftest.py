"""The Debian guest's tree in a jail, and a user who logs in there by OpenSSH and may use sudo."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from emulators.guests import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE
from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.jail import Jail
from tasks.communicator import must
from tasks.ssh.guest import SshGuest
from tasks.ssh.plan import Credentials, LogInPlan, OfferedKey
from tests.emulators.machines.support import Address, Key
from tests.tasks.chroot.cellar import need_root
from tests.tasks.chroot.conftest import disk, volume  # noqa: F401 (fixtures)
from tests.tasks.provisioners.ansible.conftest import Station

SUDO_PASSWORD = "open s3same"


@pytest.fixture(scope="session")
def master() -> Path:
    """The Debian guest's disk."""
    need_root()
    output = Path(os.environ.get(DIRECTORY_VARIABLE) or Path(__file__).parents[4] / DEFAULT_DIRECTORY)
    if not (output / "debian" / "image.json").exists():
        pytest.skip("no Debian guest: python -m emulators.guests build debian")
    return output / "debian" / "disk.raw"


@pytest.fixture
async def jail(volume: Any, tmp_path: Path) -> AsyncIterator[Jail]:  # noqa: F811
    async with Jail(tmp_path / "mounted", logging.getLogger("tests")) as jail:
        await jail.mount_device(volume.partition)
        await jail.mount_extra(disk=volume.disk)
        yield jail


@pytest.fixture
def debian(jail: Jail, tmp_path: Path) -> Station:
    """Debian in a jail, as root."""
    return Station(JailCommunicator(jail), tmp_path)


@pytest.fixture
async def cook(debian: Station) -> AsyncIterator[Station]:
    """The same over SSH, as a user who may use sudo without a password."""
    key, address = Key.make(), Address.free()
    await must(
        debian.communicator,
        "useradd -m -p '*' -s /bin/bash cook && useradd -m -p '*' -s /bin/bash guest"
        " && echo 'cook ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/cook"
        f" && for user in cook guest; do mkdir -m 700 /home/$user/.ssh && echo '{key.public}' >"
        " /home/$user/.ssh/authorized_keys && chown -R $user /home/$user/.ssh; done"
        " && mkdir -p /run/sshd && ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key",
        what="let a cook in",
    )
    said = bytearray()
    serving = asyncio.create_task(
        debian.communicator.run(
            f"/usr/sbin/sshd -D -e -o Port={address.port} -o ListenAddress={address.host} -o UsePAM=no", said.extend
        )
    )
    guest = SshGuest(LogInPlan(address.host, Credentials("cook", (OfferedKey("the key", key.private),)), address.port))
    await guest.connect(60)
    yield Station(guest, debian.base)
    guest.close()
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving
