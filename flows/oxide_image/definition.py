"""The build definition of the `oxide-instance` builder, with the option names of the Packer plugin."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from blocks.errors import DefinitionError, Mistake
from blocks.oxide.credentials import OxideCredentialsReference, find_credentials
from blocks.oxide.models import (
    DESCRIPTION_LENGTH,
    GIB,
    NAME_LENGTH,
    NAME_PATTERN,
    AutoPool,
    BootDisk,
    DistributedDisk,
    EphemeralIp,
    ExplicitPool,
    Image,
    ImageSource,
    InstanceCreate,
    NetworkInterface,
    NetworkInterfaces,
    SshKey,
)
from blocks.references import SecretReference
from flows.definition import BuildDefinition, Text, at, check_variables
from tasks import grounds
from tasks.cloud import Cloud
from tasks.masking import keep_secret
from tasks.naming import oxide_name, render, shortened
from tasks.oxide.ground import OxideGround
from tasks.oxide.run import OxideRun
from tasks.provisioners import Provisioner
from tasks.quantities import Bytes, Seconds


def _check_name(value: str) -> str:
    check_variables(value)
    # What variables become is cleaned to what a name may hold; only what stands around them can be wrong.
    probe = re.sub(r"\{\{.*?\}\}", "x", value)
    if not re.fullmatch(NAME_PATTERN, probe):
        raise PydanticCustomError(
            "oxide_name",
            "must be of lower-case letters, digits and hyphens, begin with a letter and end with no hyphen",
        )
    if len(probe) > NAME_LENGTH:
        raise PydanticCustomError("oxide_name", f"must be at most {NAME_LENGTH} characters long")
    return value


def _check_gib(value: int) -> int:
    if value % GIB:
        raise PydanticCustomError("gib", "must be whole GiB, such as 20GiB")
    return value


Name = Annotated[str, AfterValidator(_check_name)]
WholeGib = Annotated[Bytes, AfterValidator(_check_gib)]


class OxideImageDefinition(BuildDefinition[OxideRun]):
    """An image that is baked on a temporary Oxide instance."""

    builder: ClassVar[str] = "oxide-instance"

    boot_disk_image_id: str = Field(
        title="Source image",
        description="Id of the image to start from, or the name of a silo image.",
        min_length=1,
        json_schema_extra=at(1),
    )
    project: str = Field(
        title="Project",
        description="Name or id of the project in which instance, disk, snapshot and image are made.",
        min_length=1,
        json_schema_extra=at(2),
    )
    credentials: OxideCredentialsReference | None = Field(
        default=None,
        title="Credentials",
        description="An Oxide Credentials block. Without it: host and token, a profile, or the environment.",
        json_schema_extra=at(3),
    )
    provisioners: list[Provisioner] = Field(
        default_factory=list,
        title="Provisioners",
        description="What is done to the instance, in this order.",
        json_schema_extra=at(4),
    )
    artifact_name: Name | None = Field(
        default=None,
        title="Image name",
        description="Name of the image. Default: {{source_name}}-{{timestamp}}-{{run_id}}.",
        json_schema_extra=at(10),
    )
    artifact_description: Text | None = Field(
        default=None,
        title="Image description",
        description="Default: the source image's.",
        max_length=DESCRIPTION_LENGTH - 80,
        json_schema_extra=at(11),
    )
    artifact_os: str | None = Field(
        default=None,
        title="Image OS",
        description="Operating system of the image. Default: the source image's.",
        json_schema_extra=at(12),
    )
    artifact_version: Text | None = Field(
        default=None,
        title="Image version",
        description="Version of the image's operating system. Default: the source image's.",
        json_schema_extra=at(13),
    )
    cpus: int = Field(
        default=1, ge=1, le=254, title="CPUs", description="Virtual CPUs of the instance.", json_schema_extra=at(20)
    )
    memory: WholeGib = Field(
        default=2 * GIB,
        ge=GIB,
        le=1536 * GIB,
        title="Memory",
        description="Memory of the instance, whole GiB: 2GiB, or bytes.",
        json_schema_extra=at(21),
    )
    boot_disk_size: WholeGib = Field(
        default=20 * GIB,
        ge=GIB,
        le=1023 * GIB,
        title="Boot disk size",
        description="Size of the boot disk, whole GiB and at least the source image's: 20GiB, or bytes.",
        json_schema_extra=at(22),
    )
    name: Name | None = Field(
        default=None,
        title="Instance name",
        description="Name of instance, boot disk, network interface and snapshot. Default: one that no other run has.",
        json_schema_extra=at(23),
    )
    hostname: Name | None = Field(
        default=None,
        title="Host name",
        description="Host name of the instance. Default: the default of the instance's name.",
        json_schema_extra=at(24),
    )
    vpc: str = Field(
        default="default",
        pattern=NAME_PATTERN,
        title="VPC",
        description="Name of the VPC.",
        json_schema_extra=at(30),
    )
    subnet: str = Field(
        default="default",
        pattern=NAME_PATTERN,
        title="Subnet",
        description="Name of the VPC's subnet.",
        json_schema_extra=at(31),
    )
    ip_pool: str | None = Field(
        default=None,
        title="IP pool",
        description="Name or id of the pool of the external address. Default: the silo's.",
        min_length=1,
        json_schema_extra=at(32),
    )
    ssh_username: str = Field(
        title="SSH user",
        description="Who the build logs in as: the image's own user, such as debian or ubuntu.",
        min_length=1,
        json_schema_extra=at(40),
    )
    ssh_port: int = Field(
        default=22, ge=1, le=65535, title="SSH port", description="The guest's SSH port.", json_schema_extra=at(41)
    )
    ssh_timeout: Seconds = Field(
        default=300,
        gt=0,
        title="SSH time-out",
        description="How long the guest may take to let the build in: 5m, or seconds.",
        json_schema_extra=at(42),
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

    def mistakes_here(self) -> list[Mistake]:
        """Files of provisioners that are not there."""
        return [
            mistake
            for place, provisioner in enumerate(self.provisioners)
            for mistake in provisioner.missing_here(self.base, f"provisioners[{place}]")
        ]

    @asynccontextmanager
    async def cloud(self) -> AsyncIterator[Cloud[OxideRun]]:
        """The region, and this definition's project on it."""
        credentials = await find_credentials(
            block=self.credentials, host=self.host, token=self.token, profile=self.profile, base=self.base
        )
        token = keep_secret(credentials.token)
        async with credentials.get_client() as client:
            yield Cloud(
                ground=lambda _run, _attempts: OxideGround(client, self.project),
                ground_elsewhere=grounds.oxide(
                    credentials.host,
                    token,
                    insecure_skip_verify=credentials.insecure_skip_verify,
                    project=self.project,
                ),
                run=partial(OxideRun, client=client, token=token, project=self.project),
            )

    def image_name(self, values: Mapping[str, str]) -> str:
        """The artifact's name. A default that would be too long is cut in the source's name, never in its suffix.

        Raises:
            DefinitionError: the variables' values make it no valid name.
        """
        if self.artifact_name is None:
            suffix = oxide_name("-{{timestamp}}-{{run_id}}", values)
            return shortened(oxide_name("{{source_name}}", values), suffix, NAME_LENGTH)
        return self._rendered("artifact_name", self.artifact_name, values)

    def instance_name(self, run: OxideRun, values: Mapping[str, str]) -> str:
        """The name of instance, boot disk, network interface and snapshot."""
        return self._rendered("name", self.name, values) if self.name else run.owned_name()

    def _rendered(self, option: str, text: str, values: Mapping[str, str]) -> str:
        name = oxide_name(text, values)
        if len(name) > NAME_LENGTH or not re.fullmatch(NAME_PATTERN, name):
            rule = f"must be at most {NAME_LENGTH} lower-case letters, digits and hyphens, from a letter, when rendered"
            raise DefinitionError([Mistake(option, rule, name)])
        return name

    def check_against(self, source: Image) -> None:
        """See that the definition fits its source image.

        Raises:
            DefinitionError: the boot disk is smaller than the image.
        """
        if self.boot_disk_size < source.size:
            rule = f"must be at least the source image's size, {-(-source.size // GIB)}GiB"
            raise DefinitionError([Mistake("boot_disk_size", rule, f"{self.boot_disk_size // GIB}GiB")])

    def image_description(self, values: Mapping[str, str], source: Image) -> str:
        """The artifact's description, without the provenance that every image's ends in."""
        return render(self.artifact_description, values) if self.artifact_description else source.description

    def image_version(self, values: Mapping[str, str], source: Image) -> str:
        """The artifact's version."""
        return render(self.artifact_version, values) if self.artifact_version else source.version

    def instance(self, run: OxideRun, values: Mapping[str, str], source: Image, key: SshKey) -> InstanceCreate:
        """The instance to launch: instance and disk carry the run's mark."""
        mark = str(run.mark)
        name = self.instance_name(run, values)
        pool = ExplicitPool(pool=self.ip_pool) if self.ip_pool else AutoPool()
        return InstanceCreate(
            name=name,
            description=mark,
            hostname=self._rendered("hostname", self.hostname, values) if self.hostname else run.owned_name(),
            memory=self.memory,
            ncpus=self.cpus,
            boot_disk=BootDisk(
                name=name,
                description=mark,
                size=self.boot_disk_size,
                disk_backend=DistributedDisk(disk_source=ImageSource(image_id=source.id)),
            ),
            network_interfaces=NetworkInterfaces(
                params=[NetworkInterface(name=name, description=mark, vpc_name=self.vpc, subnet_name=self.subnet)]
            ),
            external_ips=[EphemeralIp(pool_selector=pool)],
            ssh_public_keys=[key.id],
        )
