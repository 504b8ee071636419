"""Writing what a build made into its manifest, if it is to have one."""

from __future__ import annotations

import time
from typing import Any

from flows.definition import BuildDefinition
from tasks.manifest import append_build, build_entry
from tasks.provisioners.common import on_this_host
from tasks.run import Run
from tasks.step import in_time


async def write_manifest(run: Run, definition: BuildDefinition[Any], artifact_id: str) -> None:
    """Append what was made to the definition's manifest.

    Args:
        run: The run.
        definition: What was built.
        artifact_id: The image, as the Packer plugin of its cloud says it.

    Raises:
        BakeryError: the manifest cannot be written.
    """
    if definition.manifest is None:
        return
    entry = build_entry(
        name=definition.build_name,
        builder=definition.builder,
        finished=time.time(),
        artifact_id=artifact_id,
        run=run.id,
        custom_data=definition.manifest_custom_data,
    )
    await in_time(run, "write manifest", append_build(on_this_host(definition.base, definition.manifest), entry))
