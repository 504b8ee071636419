"""Steps on a guest that is reached by SSH."""

from __future__ import annotations

import paramiko

from tasks.communicator import Communicator
from tasks.run import Run
from tasks.ssh.temporary_key import forget_key
from tasks.step import step


@step("forget temporary key")
async def forget_temporary_key(_run: Run, communicator: Communicator, key: paramiko.PKey) -> None:
    """Remove the temporary key from the guest's authorized_keys: the image must not let its builder in."""
    await forget_key(communicator, key)
