"""`generalize`: make a system fit to be an image, of which many machines start, by removing what makes it this one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from pydantic import Field

from blocks.errors import ProvisionerFailed
from tasks.communicator import as_root
from tasks.output import Lines
from tasks.provisioners.common import Bench, ProvisionerOptions

_SCRIPT = Path(__file__).with_suffix(".sh")

_ORDER = (
    *("package_caches", "cloud_init", "shell_history", "dhcp_leases", "random_seed", "temporary_files"),
    # Last, since what goes before may write to them, or ask for them.
    *("ssh_host_keys", "logs", "machine_id"),
)


class Generalize(ProvisionerOptions):
    """Remove what makes a system one machine and no image. Put it last."""

    type: Literal["generalize"] = Field(title="Type", json_schema_extra={"position": 0})
    machine_id: bool = Field(
        default=True,
        title="Machine id",
        description="Empty /etc/machine-id, so that each machine makes its own at its first boot (machine-id(5)).",
        json_schema_extra={"position": 2},
    )
    ssh_host_keys: bool = Field(
        default=True,
        title="SSH host keys",
        description="Remove them, where something makes new ones at the next boot: the SSH service itself, cloud-init, "
        "or, under systemd, a small unit that is then installed. Else they stay, with a warning. Without them an SSH "
        "server may let nobody in any more until the next boot; the connection that stands is not touched.",
        json_schema_extra={"position": 3},
    )
    cloud_init: bool = Field(
        default=True,
        title="cloud-init state",
        description="Have cloud-init take the next boot for a first one. Seeds and per-boot scripts stay.",
        json_schema_extra={"position": 4},
    )
    logs: bool = Field(
        default=True,
        title="Logs",
        description="Empty log files; remove rotated ones, the journal and crash dumps.",
        json_schema_extra={"position": 5},
    )
    package_caches: bool = Field(
        default=True,
        title="Package caches",
        description="Remove what apt, dnf, yum, zypper, apk and pacman have downloaded, package lists included.",
        json_schema_extra={"position": 6},
    )
    shell_history: bool = Field(
        default=True,
        title="Shell history",
        description="Remove the histories of shells and other interactive programs, of all users.",
        json_schema_extra={"position": 7},
    )
    random_seed: bool = Field(
        default=True,
        title="Random seed",
        description="Remove the saved seed, which two machines must never share (random-seed(8)).",
        json_schema_extra={"position": 8},
    )
    dhcp_leases: bool = Field(
        default=True,
        title="DHCP leases",
        description="Remove the leases that DHCP clients have kept.",
        json_schema_extra={"position": 9},
    )
    temporary_files: bool = Field(
        default=True,
        title="Temporary files",
        description="Remove what is in /tmp and /var/tmp, but for what runs there now, and what Ansible left in homes.",
        json_schema_extra={"position": 10},
    )

    async def provision(self, bench: Bench) -> None:
        """Do what is switched on, in one go, and say what was done.

        Raises:
            ProvisionerFailed: it could not be done as root.
        """
        want = [item for item in _ORDER if getattr(self, item)]

        def hear(line: str) -> None:
            kind, _, text = line.partition(" ")
            if kind == "did":
                bench.logger.info("%s", text)
            else:
                bench.logger.warning("%s", text if kind == "warn" else line)

        lines = Lines(hear)
        try:
            code = await bench.communicator.run(
                as_root(f"want={shlex.quote(' '.join(want))}\n{_SCRIPT.read_text(encoding='utf-8')}"), lines.feed
            )
        finally:
            lines.end()
        if code != 0:
            raise ProvisionerFailed(
                f"the system could not be generalized: exit code {code}",
                resource=self.called,
                why=" ".join(lines.tail),
                hint="It takes root's rights: log in as root, or as a user who may use sudo without a password.",
            )
