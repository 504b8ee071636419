"""The flow `build-oxide-image`."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from prefect import Flow, flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled
from pydantic import BaseModel

from blocks.oxide.models import GIB
from blocks.settings import settings
from flows.definition import check
from flows.oven import clean_up_after, oven
from flows.oxide_image.definition import OxideImageDefinition
from tasks.attended import BuildCancelled
from tasks.naming import variables
from tasks.oxide.images import (
    check_artifact_name,
    register_image,
    snapshot_boot_disk,
    view_project,
    view_source_image,
)
from tasks.oxide.instances import (
    connect,
    create_temporary_key,
    find_address,
    launch_instance,
    shut_down,
    wait_until_running,
)
from tasks.page import steps_table
from tasks.provision import provision
from tasks.run import StepTime
from tasks.ssh.guest import SshGuest
from tasks.ssh.steps import forget_temporary_key
from tasks.ssh.temporary_key import public_line, temporary_key


class OxideArtifact(BaseModel):
    """The image that a build made."""

    id: str
    name: str
    project: str
    size: int
    """Bytes."""
    os: str
    version: str
    source_image_id: str
    source_image_name: str
    steps: list[StepTime]
    """What was done, and how long each step took."""

    def report(self) -> str:
        """What a person wants to read at the end of a build."""
        return (
            f"\nImage:   {self.name}\nId:      {self.id}\nProject: {self.project}\n"
            f"Size:    {self.size / GIB:g} GiB\nSource:  {self.source_image_name} ({self.source_image_id})\n\n"
            f"{steps_table(self.steps)}"
        )


async def clean_up(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Remove what a run left, in whatever process Prefect calls this hook."""
    del flow, state
    await clean_up_after(flow_run, OxideImageDefinition)


@flow(
    name="build-oxide-image",
    validate_parameters=False,  # `check` does it: all mistakes at once, and no secret in an error
    persist_result=False,
    on_failure=[clean_up],
    on_crashed=[clean_up],
    on_cancellation=[clean_up],
)
async def build_oxide_image(build: OxideImageDefinition) -> OxideArtifact | State[Any]:
    """Bake a machine image on a temporary Oxide instance.

    The instance is launched from the source image, provisioned over SSH and shut down from inside; its boot disk
    becomes the new image. Whatever way the build ends, nothing temporary is left.
    """
    definition = check(OxideImageDefinition, build)
    try:
        async with oven(definition) as run:
            await view_project(run)
            source = await view_source_image(run, definition.boot_disk_image_id)
            run.source = {"name": source.name, "id": source.id, "version": f"{source.os} {source.version}"}
            definition.check_against(source)
            values = variables(run.id, run.created, build_name=definition.build_name, source_name=source.name)
            name = definition.image_name(values)

            image = await check_artifact_name(run, name)
            if image is None:
                key = temporary_key(run.token, run.id)
                registered = await create_temporary_key(run, run.owned_name("key"), public_line(key))
                instance = await launch_instance(run, definition.instance(run, values, source, registered))
                instance = await wait_until_running(run, instance, settings().start_timeout)
                address = await find_address(run, instance)

                with closing(SshGuest(address, definition.ssh_port, definition.ssh_username, key)) as guest:
                    await connect(run, guest, instance, definition.ssh_timeout)
                    await provision(
                        run,
                        guest,
                        definition.provisioners,
                        base=definition.base,
                        variables=definition.script_variables(),
                    )
                    await forget_temporary_key(run, guest, key)
                    await shut_down(run, guest, instance)

                snapshot = await snapshot_boot_disk(run, instance)
                image = await register_image(
                    run,
                    name,
                    definition.image_description(values, source),
                    definition.artifact_os or source.os,
                    definition.image_version(values, source),
                    snapshot,
                )
            run.made = {
                "name": image.name,
                "id": image.id,
                "project": run.project,
                "size": f"{image.size / GIB:g} GiB",
                "version": f"{image.os} {image.version}",
            }
            run.logger.info("Baked image %s (%s)", image.name, image.id)
    except BuildCancelled as cancelled:
        return Cancelled(message=str(cancelled))
    return OxideArtifact(
        id=image.id,
        name=image.name,
        project=run.project,
        size=image.size,
        os=image.os,
        version=image.version,
        source_image_id=source.id,
        source_image_name=source.name,
        steps=run.steps,
    )
