"""Going on with an instance that an earlier try of the build kept."""

from __future__ import annotations

from dataclasses import dataclass

from blocks.errors import NothingKept
from blocks.oxide.models import Instance
from tasks.mark import Mark
from tasks.oxide.run import OxideRun
from tasks.step import step


@dataclass(frozen=True)
class Adopted:
    """An instance that an earlier try of the build made."""

    instance: Instance
    is_provisioned: bool
    """Whether its provisioners are through and it was shut down for its snapshot."""


@step("look for a kept instance")
async def adopt_instance(run: OxideRun, public_key: str | None) -> Adopted | None:
    """Find the instance that an earlier try of this build kept.

    The temporary key is removed from the region as soon as the instance is off for good, so an instance that is off
    and whose key is gone has had all of its provisioners.

    Args:
        run: The run.
        public_key: The temporary key's public half; None for a build that uses none.

    Raises:
        NothingKept: it is there, and this build cannot go on with it.
    """
    instances = [found async for found in run.client.instances(run.project) if _is_adopted(run, found.description)]
    if not instances:
        return None
    instance = instances[0]
    resource = f"instance {instance.name} ({instance.id})"
    keys = [found async for found in run.client.ssh_keys() if _is_adopted(run, found.description)]
    if public_key is not None and keys and all(found.public_key.strip() != public_key for found in keys):
        raise NothingKept(
            "the kept instance cannot be reached any more",
            resource=resource,
            why="its key derives from the API token that it was launched with, and that is another one now",
            hint=f"Go on with the old token, or remove what is kept: {run.command} --clean-up {run.lineage.origin}",
        )
    off = instance.run_state == "stopped"
    if off and public_key is None:
        raise NothingKept(
            "the kept instance is off, and nothing tells whether its provisioners are through",
            resource=resource,
            hint=f"Remove what is kept, and build anew: {run.command} --clean-up {run.lineage.origin}",
        )
    provisioned = off and not keys
    run.logger.info(
        "Going on with the kept instance %s (%s)%s",
        instance.name,
        instance.id,
        ", whose provisioners are through" if provisioned else "",
    )
    return Adopted(instance, provisioned)


def _is_adopted(run: OxideRun, description: str) -> bool:
    return run.lineage.adopts(Mark.parse(description))


@step("retire temporary key")
async def retire_temporary_key(run: OxideRun) -> None:
    """Remove the temporary key from the region: the instance is off, and does not start again."""
    keys = [found async for found in run.client.ssh_keys() if _is_adopted(run, found.description)]
    for key in keys:
        await run.client.delete_ssh_key(key.id)
