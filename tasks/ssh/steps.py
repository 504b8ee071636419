"""Steps on a guest that is reached by SSH."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from pydantic import SecretStr

from tasks.communicator import Communicator
from tasks.kept import write_key
from tasks.run import Run
from tasks.ssh.guest import SshGuest
from tasks.ssh.host_key import host_key
from tasks.ssh.options import SshOptions
from tasks.ssh.plan import LogInPlan
from tasks.ssh.resolve import log_in_plan
from tasks.ssh.temporary_key import TEMPORARY_KEY, derived_text, forget_key, from_text, public_line
from tasks.step import step


@dataclass(frozen=True)
class LogIn:
    """How a build logs in to its guest, decided before the guest exists."""

    plan: LogInPlan
    key: paramiko.PKey | None
    """The temporary key, where the build makes one."""
    private_key: SecretStr | None = None
    """Its text."""

    def guest_at(self, address: str) -> SshGuest:
        """The guest, once its address is known; not connected yet. An `ssh_host` takes the address's place."""
        return SshGuest(self.plan.at(address))

    def facts(self, address: str) -> dict[str, Any]:
        """What scripts and templates may know of the connection: fields of `BuildFacts`."""
        plan = self.plan.at(address)
        return {
            "host": plan.host,
            "port": plan.port,
            "user": plan.credentials.user,
            "connection": "ssh",
            "public_key": public_line(self.key) if self.key else "",
        }

    def way_in(self, run: Run, address: str) -> str:
        """The command by which a person logs in to a kept guest; its key is put into a file for that."""
        target = f"-p {self.plan.port} {self.plan.credentials.user}@{self.plan.at(address).host}"
        if self.private_key is None:
            return f"ssh {target}"
        return f"ssh -i {write_key(run.lineage.origin, self.private_key)} {target}"


@step("prepare log-in")
async def prepare_log_in(run: Run, options: SshOptions, base: Path, token: SecretStr) -> LogIn | None:
    """Look up the secrets and read the keys that let the build in, and derive what it makes for itself.

    Args:
        run: The run.
        options: The build's.
        base: The definition's directory.
        token: The API token, from which the build's own keys are derived.

    Returns:
        None when nothing logs in to the instance.

    Raises:
        SecretUnavailable: a reference leads to no secret.
        DefinitionError: a key file or certificate cannot be used.
    """
    for warning in options.ssh_warnings():
        run.logger.warning("%s", warning)
    if options.communicator == "none":
        return None
    known = host_key(token, run.lineage.origin) if options.ssh_host_key == "injected" else None
    text = derived_text(token, run.lineage.origin, TEMPORARY_KEY) if options.makes_temporary_key else None
    key = from_text(text) if text else None
    plan = await log_in_plan(options, base, temporary_key=key, host_key=known)
    return LogIn(plan, key, text)


@step("forget temporary key")
async def forget_temporary_key(_run: Run, communicator: Communicator, key: paramiko.PKey) -> None:
    """Remove the temporary key from the guest's authorized_keys: the image must not let its builder in."""
    await forget_key(communicator, key)
