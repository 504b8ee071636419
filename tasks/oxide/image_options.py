"""The options of source image and artifact, with the names of the Packer plugin where it has them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from blocks.oxide.models import DESCRIPTION_LENGTH
from tasks.naming import Text
from tasks.oxide.option_types import ImageChoice, Name, NameOrId

PROVENANCE_LENGTH = 80
"""What a finished image's description needs to say where it came from."""


class ImageOptions(BaseModel):
    """What is baked, and of what."""

    boot_disk_image_id: ImageChoice | None = Field(
        default=None,
        title="Source image",
        description="The image to start from: its id; its name, if the silo or the project has it; or its name in a "
        "project of its own, {name: …, project: …}. Required, unless the source is another definition's image.",
        json_schema_extra={"position": 1},
    )
    project: NameOrId = Field(
        title="Project",
        description="Name or id of the project in which instance, disk, snapshot and image are made.",
        json_schema_extra={"position": 2},
    )
    artifact_name: Name | None = Field(
        default=None,
        title="Image name",
        description="Name of the image. Default: {{source_name}}-{{timestamp}}-{{run_id}}.",
        json_schema_extra={"position": 5},
    )
    artifact_description: Text | None = Field(
        default=None,
        title="Image description",
        description="Default: the source image's.",
        max_length=DESCRIPTION_LENGTH - PROVENANCE_LENGTH,
        json_schema_extra={"position": 11},
    )
    artifact_os: Text | None = Field(
        default=None,
        title="Image OS",
        description="Operating system of the image. Default: the source image's.",
        json_schema_extra={"position": 12},
    )
    artifact_version: Text | None = Field(
        default=None,
        title="Image version",
        description="Version of the image's operating system. Default: the source image's.",
        json_schema_extra={"position": 13},
    )
    promote: bool = Field(
        default=False,
        title="Silo image",
        description="The image is the silo's, and every project may use it.",
        json_schema_extra={"position": 14},
    )
    force: bool = Field(
        default=False,
        title="Replace",
        description="An image that has the name already is replaced, once the new one is seen to be good.",
        json_schema_extra={"position": 15},
    )
    skip_create_image: bool = Field(
        default=False,
        title="No image",
        description="Boot, provision and shut down, and make no image of it.",
        json_schema_extra={"position": 16},
    )
