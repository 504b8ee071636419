"""Run a build's provisioners, each as a step of its own, its output in the run's log line by line."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.communicator import Communicator
from tasks.provisioners import Provisioner
from tasks.provisioners.common import Bench
from tasks.run import Logger, Run
from tasks.step import step


async def provision(
    run: Run,
    communicator: Communicator,
    provisioners: Sequence[Provisioner],
    *,
    base: Path,
    variables: Mapping[str, str],
) -> None:
    """Run the provisioners one after the other.

    Args:
        run: The run.
        communicator: How the system that is being made is reached.
        provisioners: What is done to it.
        base: The definition's directory on this host.
        variables: Environment variables that every script sees.
    """
    for label, provisioner in zip(labels(provisioners), provisioners, strict=True):
        bench = Bench(communicator, _Tagged(run.logger, label), base, variables)

        # Not tried again as a whole: what a script did the first time is not undone.
        await step(f"provision: {label}", retries=0)(_provision_once)(run, provisioner, bench)


async def _provision_once(_run: Run, provisioner: Provisioner, bench: Bench) -> None:
    await provisioner.provision(bench)


def labels(provisioners: Sequence[Provisioner]) -> Iterator[str]:
    """How each provisioner is called in log and build page: its name, else its type and place."""
    for place, provisioner in enumerate(provisioners, start=1):
        yield provisioner.name or f"{provisioner.type} {place}"


class _Tagged(logging.LoggerAdapter[Any]):
    """A run's log whose lines say which provisioner they come from."""

    def __init__(self, logger: Logger, label: str) -> None:
        super().__init__(logger, {})
        self._label = label

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        # Formatted here, so that neither a label nor a line of output is taken for a format.
        text = str(msg) % args if args else str(msg)
        self.logger.log(level, f"[{self._label}] {text}", **kwargs)
