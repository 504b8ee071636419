"""How a worker gets at definitions and scripts: the pull steps of prefect.yaml."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, cast

import yaml
from prefect.utilities.templating import apply_values

from blocks.errors import BakeryError

DIRECTORY, COMMIT = "PWD", "IMAGE_BAKERY_COMMIT"
"""What pull steps may name as `{{ $VARIABLE }}`: this directory, and the commit that it has checked out."""


def set_variables(root: Path, environment: MutableMapping[str, str], definitions: Path) -> None:
    """Set the variables that pull steps name, where the environment does not have them.

    Raises:
        BakeryError: a commit is named, and there is none, or it is not what stands in the definitions' directory.
    """
    environment[DIRECTORY] = str(root)
    if f"${COMMIT}" not in _steps_text(root) or environment.get(COMMIT):
        return
    if _git(root, "status", "--porcelain", "--", str(definitions)):
        raise BakeryError(
            "the definitions have changes that no commit holds, and workers check out a commit",
            resource=str(definitions),
            hint=f"Commit and push them, or name a commit: {COMMIT}=…",
        )
    environment[COMMIT] = _git(root, "rev-parse", "HEAD")


def pull_steps(root: Path) -> list[Mapping[str, Any]]:
    """The pull steps, their variables filled in. References to blocks stay: workers resolve them.

    Raises:
        BakeryError: prefect.yaml has none.
    """
    steps = yaml.safe_load(_text(root)).get("pull")
    if not isinstance(steps, list):
        raise BakeryError(
            "there are no pull steps",
            resource=str(root / "prefect.yaml"),
            hint="Give `pull` a list: set_working_directory on one machine, git_clone for workers elsewhere.",
        )
    return [cast("dict[str, Any]", apply_values(step, dict(os.environ), remove_notset=False)) for step in steps]


def _text(root: Path) -> str:
    return (root / "prefect.yaml").read_text(encoding="utf-8")


def _steps_text(root: Path) -> str:
    return yaml.safe_dump(yaml.safe_load(_text(root)).get("pull"))


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise BakeryError(
            "the commit that workers are to check out cannot be told",
            resource=str(root),
            why=said,
            hint=f"Name one: {COMMIT}=…",
        ) from None
    return done.stdout.strip()
