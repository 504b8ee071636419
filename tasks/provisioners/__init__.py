"""Provisioners: what is done to the system that is being made. One file each, its options beside what it does."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.provisioners.file import File
from tasks.provisioners.reboot import Reboot
from tasks.provisioners.shell import Shell

Provisioner = Annotated[Shell | File | Reboot, Field(discriminator="type")]
"""Any provisioner, told apart by its `type`."""

__all__ = ["File", "Provisioner", "Reboot", "Shell"]
