"""The build definition of the `outscale-chroot` builder, with the option names of the Packer plugin."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from blocks.errors import DefinitionError, Mistake
from blocks.outscale.credentials import OutscaleCredentialsReference, find_credentials
from blocks.outscale.models import BootMode, Image, ImageCreate, ImageDevice, Snapshot, Vm, VolumeCreate, VolumeType
from blocks.references import SecretReference
from flows.definition import BuildDefinition, Text, at, check_variables
from tasks import grounds
from tasks.chroot.copied_files import DEFAULT_FILES
from tasks.chroot.mounts import DEFAULT_MOUNTS, Mount
from tasks.chroot.steps import rendered
from tasks.cloud import Cloud
from tasks.mark import provenance
from tasks.masking import keep_secret
from tasks.naming import omi_name, render, shortened
from tasks.outscale.ground import OutscaleGround
from tasks.outscale.run import OutscaleRun
from tasks.provisioners import Provisioner, Reboot

NAME_LENGTH = 128
DESCRIPTION_LENGTH = 255
_NAME = r"[A-Za-z0-9_ ()/.-]{3,128}"
_DEVICE = r"^/dev/(sd|xvd)[b-z][a-z]?$"


def _check_name(value: str) -> str:
    check_variables(value)
    if not re.fullmatch(_NAME, re.sub(r"\{\{.*?\}\}", "xxx", value)):
        raise PydanticCustomError("omi_name", "must be 3 to 128 letters, digits, blanks and any of _ ( ) / . -")
    return value


Name = Annotated[str, AfterValidator(_check_name)]


class OutscaleImageDefinition(BuildDefinition[OutscaleRun]):
    """An OMI that is baked in a chroot on the VM that the build runs on."""

    builder: ClassVar[str] = "outscale-chroot"

    source_omi: str = Field(
        title="Source OMI",
        description="Id of the OMI to start from: ami-…",
        pattern=r"^ami-[0-9a-f]{8,}$",
        json_schema_extra=at(1),
    )
    credentials: OutscaleCredentialsReference | None = Field(
        default=None,
        title="Credentials",
        description="An OUTSCALE Credentials block. Without it: the options below, a profile, or the environment.",
        json_schema_extra=at(3),
    )
    provisioners: list[Provisioner] = Field(
        default_factory=list,
        title="Provisioners",
        description="What is done in the chroot, in this order.",
        json_schema_extra=at(4),
    )
    omi_name: Name | None = Field(
        default=None,
        title="OMI name",
        description="Name of the OMI. Default: {{source_name}}-{{timestamp}}-{{run_id}}.",
        json_schema_extra=at(10),
    )
    omi_description: Text | None = Field(
        default=None,
        title="OMI description",
        description="Default: the source OMI's.",
        max_length=DESCRIPTION_LENGTH - 60,
        json_schema_extra=at(11),
    )
    omi_account_ids: list[str] = Field(
        default_factory=list,
        title="Accounts",
        description="Accounts that may launch the OMI and make volumes of its snapshot.",
        json_schema_extra=at(12),
    )
    global_permission: bool = Field(
        default=False, title="Public", description="Let everybody launch the OMI.", json_schema_extra=at(13)
    )
    tags: dict[str, Text] = Field(
        default_factory=dict, title="Tags", description="Of the OMI and its snapshot.", json_schema_extra=at(14)
    )
    snapshot_tags: dict[str, Text] = Field(
        default_factory=dict,
        title="Snapshot tags",
        description="Of the snapshot; they win over tags.",
        json_schema_extra=at(15),
    )
    omi_boot_modes: list[BootMode] | None = Field(
        default=None, title="Boot modes", description="Default: the source OMI's.", json_schema_extra=at(16)
    )
    root_volume_size: int | None = Field(
        default=None,
        ge=1,
        le=14901,
        title="Volume size",
        description="GiB; at least the source OMI's, which is the default.",
        json_schema_extra=at(20),
    )
    root_volume_type: Literal["standard", "gp2"] | None = Field(
        default=None, title="Volume type", description="Default: the source OMI's.", json_schema_extra=at(21)
    )
    root_volume_tags: dict[str, Text] = Field(
        default_factory=dict,
        title="Volume tags",
        description="Of the temporary volume.",
        json_schema_extra=at(22),
    )
    device_path: str | None = Field(
        default=None,
        pattern=_DEVICE,
        title="Device",
        description="Name under which the volume is linked, such as /dev/xvdf. Default: one that is free.",
        json_schema_extra=at(23),
    )
    mount_partition: int = Field(
        default=1,
        ge=0,
        title="Partition",
        description="The root partition; 0: the whole disk.",
        json_schema_extra=at(24),
    )
    mount_options: list[str] = Field(
        default_factory=list, title="Mount options", description="Each as with mount -o.", json_schema_extra=at(25)
    )
    mount_path: str = Field(
        default="/mnt/image-bakery/{{.Device}}",
        pattern=r"^/.+",
        title="Mount path",
        description="Where the root is mounted, in the jail only; {{.Device}} is the device's base name.",
        json_schema_extra=at(26),
    )
    chroot_mounts: list[tuple[str, str, str]] = Field(
        default=[(mount.kind, mount.source, mount.inner) for mount in DEFAULT_MOUNTS],
        title="Chroot mounts",
        description="Type, source and path inside of each further mount; an empty list is none.",
        json_schema_extra=at(27),
    )
    copy_files: list[str] = Field(
        default=list(DEFAULT_FILES),
        title="Copy files",
        description="Files of the host that stand in for the image's own while it is provisioned.",
        json_schema_extra=at(28),
    )
    command_wrapper: str = Field(
        default="{{.Command}}",
        title="Command wrapper",
        description="Host shell around commands: {{.Command}} is the command.",
        json_schema_extra=at(29),
    )
    pre_mount_commands: list[str] = Field(
        default_factory=list,
        title="Pre-mount commands",
        description="Host shell, after linking: {{.Device}} is the device.",
        json_schema_extra=at(30),
    )
    post_mount_commands: list[str] = Field(
        default_factory=list,
        title="Post-mount commands",
        description="Host shell, after mounting: {{.Device}}, {{.MountPath}}.",
        json_schema_extra=at(31),
    )
    region: str | None = Field(
        default=None,
        title="Region",
        description="Default: the profile's, OSC_REGION, eu-west-2.",
        json_schema_extra=at(50),
    )
    custom_endpoint_oapi: str | None = Field(
        default=None,
        title="Endpoint",
        description="URL of the API up to and without the action. Default: that of the region.",
        json_schema_extra=at(51),
    )
    access_key: SecretReference | None = Field(
        default=None, title="Access key", description="Where the access key is.", json_schema_extra=at(52)
    )
    secret_key: SecretReference | None = Field(
        default=None, title="Secret key", description="Where the secret key is.", json_schema_extra=at(53)
    )
    profile: str | None = Field(
        default=None,
        title="Profile",
        description="A profile of ~/.osc/config.json on the host that builds.",
        min_length=1,
        json_schema_extra=at(54),
    )
    x509_cert_path: str | None = Field(
        default=None, title="Client certificate", description="PEM file.", json_schema_extra=at(55)
    )
    x509_key_path: str | None = Field(
        default=None, title="Key of the client certificate", description="PEM file.", json_schema_extra=at(56)
    )
    insecure_skip_tls_verify: bool = Field(
        default=False, title="Do not verify TLS", description="Accept any certificate.", json_schema_extra=at(57)
    )

    @model_validator(mode="after")
    def _check(self) -> OutscaleImageDefinition:
        rules = [
            f"provisioners[{place}] is a reboot, and a chroot cannot be restarted"
            for place, provisioner in enumerate(self.provisioners)
            if isinstance(provisioner, Reboot)
        ]
        if "{{.Command}}" not in self.command_wrapper:
            rules.append("command_wrapper must contain {{.Command}}, or nothing would run")
        if (self.access_key is None) != (self.secret_key is None):
            rules.append("access_key and secret_key go together")
        if self.credentials is not None and (self.access_key is not None or self.profile is not None):
            rules.append("gives credentials in two ways: a block, and access_key or profile")
        if rules:
            raise ValueError("; ".join(rules))
        return self

    def mistakes_here(self) -> list[Mistake]:
        """Files that are named and are not there, and what this host is not."""
        mistakes = [
            mistake
            for place, provisioner in enumerate(self.provisioners)
            for mistake in provisioner.missing_here(self.base, f"provisioners[{place}]")
        ]
        for place, path in enumerate(self.copy_files):
            if not Path(path).is_absolute() or not Path(path).is_file():
                mistakes.append(Mistake(f"copy_files[{place}]", "must be a file of this host, by its full path", path))
        return mistakes

    @asynccontextmanager
    async def cloud(self) -> AsyncIterator[Cloud[OutscaleRun]]:
        """The account."""
        credentials = await find_credentials(
            block=self.credentials,
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=self.region,
            custom_endpoint_oapi=self.custom_endpoint_oapi,
            profile=self.profile,
            insecure_skip_tls_verify=self.insecure_skip_tls_verify,
            x509_cert_path=self.x509_cert_path,
            x509_key_path=self.x509_key_path,
            base=self.base,
        )
        keep_secret(credentials.secret_key)
        async with credentials.get_client() as client:
            yield Cloud(
                ground=partial(OutscaleGround, client),
                ground_elsewhere=grounds.outscale(
                    credentials.url,
                    credentials.region,
                    credentials.access_key,
                    credentials.secret_key,
                    insecure_skip_tls_verify=credentials.insecure_skip_tls_verify,
                    x509_cert_path=credentials.x509_cert_path,
                    x509_key_path=credentials.x509_key_path,
                ),
                run=partial(OutscaleRun, client=client),
            )

    def image_name(self, values: Mapping[str, str]) -> str:
        """The OMI's name. A default that would be too long is cut in the source's name, never in its suffix.

        Raises:
            DefinitionError: the variables' values make it no valid name.
        """
        if self.omi_name is None:
            suffix = omi_name("-{{timestamp}}-{{run_id}}", values)
            return shortened(omi_name("{{source_name}}", values), suffix, NAME_LENGTH)
        name = omi_name(self.omi_name, values)
        if not re.fullmatch(_NAME, name):
            rule = "must be 3 to 128 letters, digits, blanks and any of _ ( ) / . - when rendered"
            raise DefinitionError([Mistake("omi_name", rule, name)])
        return name

    def description(self, run: OutscaleRun, values: Mapping[str, str], source: Image) -> str:
        """The finished OMI's description: the user's or the source's, and where the OMI came from."""
        text = render(self.omi_description, values) if self.omi_description else source.description
        origin = provenance(run.id)
        return f"{text[: DESCRIPTION_LENGTH - len(origin) - 1]} {origin}".strip()

    def volume(self, run: OutscaleRun, vm: Vm, root: ImageDevice) -> VolumeCreate:
        """The temporary volume.

        Raises:
            DefinitionError: it would be smaller than the source OMI's.
        """
        assert root.bsu is not None
        size = self.root_volume_size
        if size is not None and root.bsu.volume_size is not None and size < root.bsu.volume_size:
            rule = f"must be at least the source OMI's size, {root.bsu.volume_size} GiB"
            raise DefinitionError([Mistake("root_volume_size", rule, str(size))])
        kind: VolumeType | None = self.root_volume_type or _volume_type(root.bsu.volume_type)
        return VolumeCreate(
            subregion_name=vm.placement.subregion_name,
            client_token=run.token("volume"),
            snapshot_id=root.bsu.snapshot_id,
            size=size or root.bsu.volume_size,
            volume_type=kind,
            iops=root.bsu.iops if kind == "io1" else None,
        )

    def omi(self, name: str, source: Image, root: ImageDevice, snapshot: Snapshot) -> ImageCreate:
        """The OMI: the source's, with the new snapshot as its root."""
        assert root.bsu is not None
        bsu = root.bsu.model_copy(
            update={
                "snapshot_id": snapshot.snapshot_id,
                "volume_size": snapshot.volume_size or self.root_volume_size or root.bsu.volume_size,
                "volume_type": self.root_volume_type or root.bsu.volume_type,
                "iops": root.bsu.iops if (self.root_volume_type or root.bsu.volume_type) == "io1" else None,
            }
        )
        devices = [
            device.model_copy(update={"bsu": bsu}) if device.device_name == root.device_name else device
            for device in source.block_device_mappings
        ]
        modes = self.omi_boot_modes if self.omi_boot_modes is not None else list(source.boot_modes)
        return ImageCreate.model_validate(
            {
                "image_name": name,
                "architecture": source.architecture or None,
                "root_device_name": source.root_device_name,
                "block_device_mappings": devices,
                "boot_modes": modes or None,
                "tpm_mandatory": source.tpm_mandatory or None,
                "product_codes": source.product_codes or None,
            }
        )

    def mount_point(self, device: str) -> Path:
        """Where the root is mounted, in the jail."""
        return Path(rendered(self.mount_path, device=Path(device).name))

    def mounts(self) -> list[Mount]:
        """The further mounts."""
        return [Mount(*mount) for mount in self.chroot_mounts]

    def rendered_tags(self, tags: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
        """Tags with their variables in place."""
        return {key: render(value, values) for key, value in tags.items()}


def _volume_type(kind: str | None) -> VolumeType | None:
    match kind:
        case "standard" | "gp2" | "io1":
            return kind
        case _:
            return None
