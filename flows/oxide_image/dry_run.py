"""What a build would do, asked of the region and changing nothing there."""

from __future__ import annotations

from flows.oxide_image.definition import OxideImageDefinition
from flows.rehearsal import rehearsal
from tasks.oxide.check import plan_build
from tasks.oxide.plan import Plan


async def plan_oxide_image(definition: OxideImageDefinition) -> Plan:
    """Make the checks of a build, and say what it would make: `report()` of the plan is for people.

    Raises:
        DefinitionError: all mistakes that the region knows of.
        CredentialsError: there are none.
        CloudError: the region cannot be asked.
    """
    async with rehearsal(definition) as run:
        return await plan_build(run, definition, build_name=definition.build_name, base=definition.base)
