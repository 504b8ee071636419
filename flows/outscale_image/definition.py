"""The build definition of the `outscale-chroot` builder, with the option names of the Packer plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import ClassVar

from pydantic import Field

from blocks.errors import Mistake, NotFound
from blocks.outscale.client import OutscaleClient
from blocks.outscale.models import Image
from flows.definition import BuildDefinition, at
from flows.forms import Section
from flows.outscale_image.access import AccessOptions
from flows.outscale_image.omi import OmiOptions
from flows.outscale_image.sections import SECTIONS
from flows.outscale_image.volume import VolumeOptions
from tasks import grounds
from tasks.cloud import Cloud
from tasks.masking import keep_secret
from tasks.outscale.ground import OutscaleGround
from tasks.outscale.lookup import OmiFilter, find_omi
from tasks.outscale.run import OutscaleRun
from tasks.outscale.source import whose_account
from tasks.provisioners import Reboot
from tasks.source_image import SourceImage

_ELSEWHERE = {
    "packer_build_name": "is called build_name here",
    "packer_force": "is called force_deregister here",
    "packer_on_error": "is called on_error here",
    **dict.fromkeys(
        (
            *("packer_builder_type", "packer_core_version", "packer_debug"),
            *("packer_sensitive_variables", "packer_user_variables"),
        ),
        "is set by Packer itself, and by nobody in a definition",
    ),
    "communicator": "is none of this builder's: a chroot is not connected to",
}


class OutscaleImageDefinition(OmiOptions, VolumeOptions, AccessOptions, BuildDefinition[OutscaleRun]):
    """An OMI that is baked in a chroot on the VM that the build runs on."""

    builder: ClassVar[str] = "outscale-chroot"
    flow_name: ClassVar[str] = "build-outscale-image"
    command: ClassVar[str] = "python -m flows.outscale_image"
    elsewhere: ClassVar[Mapping[str, str]] = _ELSEWHERE
    usual_steps: ClassVar[int] = 13
    sections: ClassVar[Sequence[Section]] = SECTIONS
    source_options: ClassVar[Sequence[str]] = ("source_omi", "source_omi_filter", "from_scratch")

    source_omi: str | None = Field(
        default=None,
        title="Source OMI",
        description="Id of the OMI to start from: ami-…. One of another account is copied first.",
        pattern=r"^ami-[0-9a-f]{8,}$",
        json_schema_extra=at(1),
    )
    source_omi_filter: OmiFilter | None = Field(
        default=None,
        title="Source OMI by filter",
        description="Which OMI to start from. With source_omi, both must match.",
        json_schema_extra=at(2),
    )
    from_scratch: bool = Field(
        default=False,
        title="From scratch",
        description="Start from an empty volume, which pre-mount commands partition and post-mount commands fill.",
        json_schema_extra=at(4),
    )

    @property
    def copied_files(self) -> list[str]:
        """The files of this host that stand in for the image's own meanwhile."""
        return self.files_to_copy(from_scratch=self.from_scratch)

    def mistakes_here(self) -> list[Mistake]:
        """Options that do not go together, files that are named and are not there, and what this host is not."""
        return [
            *self._mistakes_from_scratch(),
            *self.mistakes_of_omi(from_scratch=self.from_scratch, root_size=self.root_volume_size),
            *self.mistakes_of_volume(from_scratch=self.from_scratch),
            *self.mistakes_of_access(),
            *(self.mistakes_of_region(self.region) if self.region else ()),
            *self._mistakes_of_provisioners(),
            *super().mistakes_here(),
        ]

    def mistakes_of_source(self) -> Iterator[Mistake]:
        """The source OMI, when nothing says which."""
        if not self.from_scratch and self.source_omi is None and self.source_omi_filter is None:
            yield Mistake("source_omi", "is required, or source_omi_filter, or from_scratch")

    def _mistakes_from_scratch(self) -> Iterator[Mistake]:
        if self.from_scratch:
            for option in ("root_volume_size", "root_device_name", "pre_mount_commands", "omi_block_device_mappings"):
                if not getattr(self, option):
                    yield Mistake(option, "is required with from_scratch")

    def _mistakes_of_provisioners(self) -> Iterator[Mistake]:
        rule = "is a reboot, and a chroot cannot be restarted"
        for place, provisioner in enumerate(self.provisioners):
            if isinstance(provisioner, Reboot):
                yield Mistake(f"provisioners[{place}]", rule)
        if isinstance(self.error_cleanup_provisioner, Reboot):
            yield Mistake("error_cleanup_provisioner", rule)

    def mistakes_of_region(self, region: str) -> Iterator[Mistake]:
        """What cannot be in the region that the credentials lead to."""
        for place, name in enumerate(self.omi_regions):
            if name != region:
                yield Mistake(f"omi_regions[{place}]", f"must be {region}: the API copies to no other region", name)

    def warnings(self) -> list[str]:
        """Options that are accepted and do nothing, or something else than they seem to, and why."""
        unused = []
        if self.from_scratch and (self.source_omi or self.source_omi_filter):
            unused.append("source_omi and source_omi_filter are not used with from_scratch")
        if self.source_omi_filter and not (self.source_omi_filter.names_an_owner or self.source_omi or unused):
            unused.append("source_omi_filter names no owner: anybody may publish an OMI that matches it. See owners")
        return [
            *unused,
            *self.warnings_of_omi(from_scratch=self.from_scratch),
            *self.warnings_of_volume(),
            *self.warnings_of_access(),
        ]

    async def source_image(self, client: OutscaleClient, account_id: str) -> Image:
        """The OMI that `source_omi` and `source_omi_filter` lead to.

        Raises:
            NotFound: there is none.
            InvalidRequest: several match, and the newest was not asked for.
        """
        if self.source_omi_filter is not None:
            return await find_omi(client, self.source_omi_filter, account_id, self.source_omi)
        return await client.image(str(self.source_omi))

    async def find_source(self, run: OutscaleRun) -> SourceImage | None:
        """The source OMI; None with `from_scratch`."""
        if self.from_scratch:
            return None
        account = await whose_account(run.client)
        image = await self.source_image(run.client, account.account_id)
        return SourceImage(image.image_id, image.image_name, image.creation_date)

    async def has_image(self, run: OutscaleRun, image_id: str) -> bool:
        """Whether the region has the OMI."""
        try:
            return (await run.client.image(image_id)).state == "available"
        except NotFound:
            return False

    @property
    def place_by_hand(self) -> Mapping[str, str]:
        """The account."""
        return {"cloud": "outscale"}

    @asynccontextmanager
    async def cloud(self) -> AsyncIterator[Cloud[OutscaleRun]]:
        """The account."""
        credentials = await self.find(self.base)
        keep_secret(credentials.secret_key)
        async with credentials.get_client() as client:
            yield Cloud(
                ground=partial(OutscaleGround, client),
                ground_elsewhere=grounds.outscale(credentials),
                run=partial(OutscaleRun, client=client),
            )
