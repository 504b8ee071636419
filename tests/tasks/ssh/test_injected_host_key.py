"""A guest that is given its host key by cloud-init is known at first contact."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from emulators.guests import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE
from emulators.guests.build import build_guest
from emulators.guests.image import read_image
from emulators.machines.qemu import QemuMachines
from tasks.communicator import must
from tasks.ssh.guest import SshGuest
from tasks.ssh.host_key import host_key, host_key_user_data
from tasks.ssh.plan import Credentials, LogInPlan, OfferedKey
from tests.emulators.machines.support import GIB, Guest


@pytest.mark.slow
async def test_cloud_init_takes_the_host_key(tmp_path: Path) -> None:
    output = Path(os.environ.get(DIRECTORY_VARIABLE) or Path(__file__).parents[3] / DEFAULT_DIRECTORY)
    debian = output / "debian"
    if not (debian / "image.json").exists():
        debian = build_guest("debian", output)
    token, run = SecretStr("token"), uuid4()
    plan = Guest(tmp_path)
    spec = plan.spec()
    user_data = host_key_user_data(token, run).get_secret_value().encode()
    machines = QemuMachines("tcg", plan.address.port)
    await machines.copy_disk(debian / "disk.raw", tmp_path / "disk.raw", 4 * GIB)
    machine = machines.machine("one")
    cloud_init = replace(spec.cloud_init, user_data=user_data)
    await machine.power_on(replace(spec, memory=GIB, cpus=2, cloud_init=cloud_init))
    guest = SshGuest(
        LogInPlan(
            plan.address.host,
            Credentials(read_image(debian).os, (OfferedKey("the key", plan.key.private),)),
            plan.address.port,
            host_key=host_key(token, run),
        )
    )
    try:
        await guest.connect(250)
        keys = await must(guest, "sudo sh -c 'ls /etc/ssh/ssh_host_*_key'", what="list the host keys")
        assert keys == "/etc/ssh/ssh_host_ed25519_key"
    finally:
        guest.close()
        await machine.power_off()
