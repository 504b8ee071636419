"""The build definition of the `oxide-instance` builder, with the option names of the Packer plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import ClassVar

from pydantic import Field, model_validator

from blocks.errors import Mistake, NotFound
from blocks.oxide.credentials import OxideCredentialsReference, find_credentials
from blocks.references import SecretReference
from flows.definition import BuildDefinition, at
from flows.forms import Section
from flows.oxide_image.sections import SECTIONS
from tasks import grounds
from tasks.cloud import Cloud
from tasks.masking import keep_secret
from tasks.oxide.ground import OxideGround
from tasks.oxide.lookup import find_image
from tasks.oxide.options import OxideOptions
from tasks.oxide.run import OxideRun
from tasks.source_image import SourceImage
from tasks.ssh.host_key import host_key_user_data
from tasks.ssh.options import SshOptions

_SOURCE = "is called boot_disk_image_id here: an id, or {name: …, project: …}"

_ELSEWHERE = {
    "disk_size": "is called boot_disk_size here",
    "source_image": _SOURCE,
    "source_image_id": _SOURCE,
    "image_id": _SOURCE,
    "image_name": "is called artifact_name here",
    "image_description": "is called artifact_description here",
    "instance_name": "is called name here",
    "ncpus": "is called cpus here",
    "vcpus": "is called cpus here",
    "subnet_id": "is called subnet here, and takes a name",
    "vpc_name": "is called vpc here",
    "subnet_name": "is called subnet here",
    "external_ips": "is called external_ip here",
    "packer_build_name": "is called build_name here",
    "packer_force": "is called force here",
    **dict.fromkeys(
        (
            *("packer_core_version", "packer_debug", "packer_builder_type"),
            *("packer_on_error", "packer_sensitive_variables", "packer_user_variables"),
        ),
        "is set by Packer itself, and by nobody in a definition",
    ),
}


class OxideImageDefinition(OxideOptions, SshOptions, BuildDefinition[OxideRun]):
    """An image that is baked on a temporary Oxide instance."""

    builder: ClassVar[str] = "oxide-instance"
    flow_name: ClassVar[str] = "build-oxide-image"
    command: ClassVar[str] = "python -m flows.oxide_image"
    elsewhere: ClassVar[Mapping[str, str]] = _ELSEWHERE
    usual_steps: ClassVar[int] = 12
    sections: ClassVar[Sequence[Section]] = SECTIONS
    source_options: ClassVar[Sequence[str]] = ("boot_disk_image_id",)

    credentials: OxideCredentialsReference | None = Field(
        default=None,
        title="Credentials",
        description="An Oxide Credentials block. Without it: host and token, a profile, or the environment.",
        json_schema_extra=at(3),
    )
    host: str | None = Field(
        default=None,
        title="Region URL",
        description="URL of the region's API, where no credentials block is given. Default: OXIDE_HOST.",
        min_length=1,
        json_schema_extra=at(50),
    )
    token: SecretReference | None = Field(
        default=None,
        title="Token",
        description="Where the token is, where no credentials block is given. Default: OXIDE_TOKEN.",
        json_schema_extra=at(51),
    )
    profile: str | None = Field(
        default=None,
        title="Profile",
        description="A profile of ~/.config/oxide/credentials.toml on the host that builds.",
        min_length=1,
        json_schema_extra=at(52),
    )
    insecure_skip_verify: bool = Field(
        default=False,
        title="Do not verify TLS",
        description="Accept any certificate of the region's API.",
        json_schema_extra=at(53),
    )

    @model_validator(mode="after")
    def _one_user_data(self) -> OxideImageDefinition:
        if self.ssh_host_key == "injected" and (self.user_data is not None or self.user_data_file is not None):
            raise ValueError("ssh_host_key: injected needs the user data for itself: leave out user_data(_file)")
        return self

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> OxideImageDefinition:
        given = [
            name
            for name, value in (
                ("credentials", self.credentials),
                ("host and token", self.host or self.token),
                ("profile", self.profile),
            )
            if value is not None
        ]
        if len(given) > 1:
            raise ValueError(f"gives credentials in {len(given)} ways ({', '.join(given)}): one is enough")
        return self

    def mistakes_of_source(self) -> Iterator[Mistake]:
        """The source image, when none is named."""
        if self.boot_disk_image_id is None:
            yield Mistake("boot_disk_image_id", "is required")

    @property
    def place_by_hand(self) -> Mapping[str, str]:
        """The project."""
        return {"cloud": "oxide", "project": self.project}

    def mistakes_here(self) -> list[Mistake]:
        """Options that do not go together, and what this host lacks: files, an agent, a terminal."""
        return self.mistakes_in_instance(self.base) + self.ssh_mistakes_here(self.base) + super().mistakes_here()

    def own_user_data(self, run: OxideRun) -> bytes:
        """User data that the build needs itself: the guest's host key, where that is to be known ahead."""
        if self.communicator == "none" or self.ssh_host_key == "pinned":
            return b""
        return host_key_user_data(run.token, run.lineage.origin).get_secret_value().encode()

    def files_named(self) -> list[tuple[str, str]]:
        """The user data's file, and those of the provisioners."""
        named = [("user_data_file", self.user_data_file)] if self.user_data_file is not None else []
        return [*named, *super().files_named()]

    async def find_source(self, run: OxideRun) -> SourceImage | None:
        """The image that `boot_disk_image_id` leads to."""
        assert self.boot_disk_image_id is not None  # asked for before anything else
        image = await find_image(run.client, self.boot_disk_image_id, project=self.project)
        return SourceImage(image.id, image.name, image.time_created)

    async def has_image(self, run: OxideRun, image_id: str) -> bool:
        """Whether the region has the image."""
        try:
            await run.client.image(image_id)
        except NotFound:
            return False
        return True

    @asynccontextmanager
    async def cloud(self) -> AsyncIterator[Cloud[OxideRun]]:
        """The region, and this definition's project on it."""
        credentials = await find_credentials(
            block=self.credentials,
            host=self.host,
            token=self.token,
            profile=self.profile,
            insecure_skip_verify=self.insecure_skip_verify,
            base=self.base,
        )
        token = keep_secret(credentials.token)
        async with credentials.get_client() as client:
            yield Cloud(
                ground=lambda _lineage: OxideGround(client, self.project),
                ground_elsewhere=grounds.oxide(credentials, self.project),
                run=partial(OxideRun, client=client, token=token, project=self.project),
            )
