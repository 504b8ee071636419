"""Provisioners: what is done to the system that is being made. One file each, its options beside what it does."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from tasks.provisioners.ansible import Ansible
from tasks.provisioners.ansible_local import AnsibleLocal
from tasks.provisioners.breakpoint import Breakpoint
from tasks.provisioners.file import File
from tasks.provisioners.generalize import Generalize
from tasks.provisioners.reboot import Reboot
from tasks.provisioners.shell import Shell
from tasks.provisioners.shell_local import ShellLocal
from tasks.provisioners.sleep import Sleep

_REFUSED = {
    "powershell": "is for Windows guests, which are not supported: builds connect by SSH to Unix guests",
    "windows-shell": "is for Windows guests, which are not supported: use shell for Unix guests",
    "windows-restart": "is for Windows guests, which are not supported: use reboot for Unix guests",
}


def _refuse(given: Any) -> Any:
    """Say why Packer's provisioners for Windows are no types here."""
    kind = given.get("type") if isinstance(given, dict) else None
    if isinstance(kind, str) and kind in _REFUSED:
        error = PydanticCustomError("windows", "{rule}", {"rule": f"{kind} {_REFUSED[kind]}"})
        raise ValidationError.from_exception_data(
            "provisioner", [InitErrorDetails(type=error, loc=("type",), input=kind)]
        )
    return given


Provisioner = Annotated[
    Annotated[
        Shell | File | Reboot | Ansible | AnsibleLocal | ShellLocal | Generalize | Sleep | Breakpoint,
        Field(discriminator="type"),
    ],
    BeforeValidator(_refuse),
]
"""Any provisioner, told apart by its `type`."""

__all__ = [
    "Ansible",
    "AnsibleLocal",
    "Breakpoint",
    "File",
    "Generalize",
    "Provisioner",
    "Reboot",
    "Shell",
    "ShellLocal",
    "Sleep",
]
