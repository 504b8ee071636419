"""What running a playbook takes, wherever Ansible runs: here (`ansible`) or there (`ansible-local`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import yaml

from blocks.errors import ProvisionerFailed
from tasks.provisioners.common import Bench, last_lines

_VARIABLES = ("PACKER_BUILD_NAME", "PACKER_BUILDER_TYPE")


def build_variables(bench: Bench) -> str:
    """What every playbook knows of the build, for `--extra-vars`: `packer_build_name` and `packer_builder_type`."""
    return json.dumps({name.lower(): bench.variables[name] for name in _VARIABLES if name in bench.variables})


def kinds_of_requirements(file: Path) -> list[Literal["role", "collection"]]:
    """What a requirements file names, as the subcommands of ansible-galaxy that install it.

    Raises:
        ProvisionerFailed: it is no YAML.
    """
    try:
        named = yaml.safe_load(file.read_bytes())
    except yaml.YAMLError as error:
        raise ProvisionerFailed(
            "the requirements are no YAML", resource=str(file), why=str(error).splitlines()[0]
        ) from None
    if not isinstance(named, dict):
        return ["role"]  # a list, as before collections
    kinds: tuple[Literal["role", "collection"], ...] = ("role", "collection")
    return [kind for kind in kinds if f"{kind}s" in named]


def check_ended(called: str, program: str, code: int, tail: Iterable[str]) -> None:
    """See that Ansible ended well.

    Args:
        called: How errors call the provisioner.
        program: What ended.
        code: Its exit code; -1 for a signal.
        tail: The last lines that it said.

    Raises:
        ProvisionerFailed: it did not. The error holds what it said about its last task.
    """
    if code != 0:
        raise ProvisionerFailed(
            f"{program} ended with exit code {code}" if code > 0 else f"{program} was ended by a signal",
            resource=called,
            why=last_lines(_last_task(list(tail))),
            hint="Mend what it complains about; extra_arguments: [-vvv] has it say more.",
        )


def _last_task(tail: list[str]) -> list[str]:
    """From the last task on, without the counts."""
    for place, text in enumerate(tail):
        if text.startswith("PLAY RECAP"):
            tail = tail[:place]
            break
    starts = [place for place, text in enumerate(tail) if text.startswith(("TASK [", "RUNNING HANDLER ["))]
    return tail[starts[-1] :] if starts else tail
