"""Options of what a build makes: the OMI and its snapshot."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from blocks.errors import Mistake
from blocks.forms import plain_optionals
from blocks.outscale.models import BootMode, Bsu, ImageDevice, VolumeType
from flows.definition import at
from flows.outscale_image.texts import OmiName, OmiText
from tasks.outscale.tokens import OWN_TAGS

DESCRIPTION_LENGTH = 255
MOST_GIB = 14901
"""The largest volume (API document, CreateVolume)."""
_TAG_LENGTH = 255
_MOST_IOPS, _MOST_IOPS_PER_GIB = 13000, 300

AccountId = Annotated[str, Field(pattern=r"^\d{12}$")]


class BlockDeviceMapping(BaseModel):
    """A disk of the VMs that are made of the OMI."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)

    device_name: str = Field(
        title="Device name",
        description="/dev/sda1 for the root, /dev/sdX or /dev/xvdX for others.",
        pattern=r"^/dev/(sda1|(sd|xvd)[b-z][a-z]?)$",
        json_schema_extra=at(1),
    )
    delete_on_vm_deletion: bool = Field(
        default=False,
        title="Delete with the VM",
        description="Whether the disk is deleted with its VM.",
        json_schema_extra=at(2),
    )
    volume_type: VolumeType | None = Field(
        default=None, title="Volume type", description="Default: standard.", json_schema_extra=at(3)
    )
    volume_size: int | None = Field(
        default=None,
        ge=1,
        le=MOST_GIB,
        title="Volume size",
        description="GiB. Default: the snapshot's. The root's is root_volume_size.",
        json_schema_extra=at(4),
    )
    iops: int | None = Field(
        default=None, ge=0, le=_MOST_IOPS, title="IOPS", description="For io1 alone.", json_schema_extra=at(5)
    )
    snapshot_id: str | None = Field(
        default=None,
        title="Snapshot",
        description="What is on the disk. The root's is the new snapshot.",
        pattern=r"^snap-[0-9a-f]{8,}$",
        json_schema_extra=at(6),
    )
    no_device: bool = Field(
        default=False, title="No device", description="Not possible: an OMI has no such field.", json_schema_extra=at(7)
    )
    virtual_name: str | None = Field(
        default=None,
        title="Virtual name",
        description="Not possible: an OMI's disks are BSU volumes.",
        json_schema_extra=at(8),
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return plain_optionals(handler.resolve_ref_schema(handler(core)))

    def mistakes(self, option: str, *, root: bool, size: int | None) -> Iterator[Mistake]:
        """What is wrong with it; `size` is the volume's as far as it is known."""
        if self.no_device:
            yield Mistake(f"{option}.no_device", "cannot be: an OMI has no such field. Leave the mapping out")
        if self.virtual_name is not None:
            yield Mistake(f"{option}.virtual_name", "cannot be: an OMI's disks are BSU volumes", self.virtual_name)
        if self.volume_type == "io1" and not self.iops:
            yield Mistake(f"{option}.iops", "is required with volume_type io1")
        if self.volume_type != "io1" and self.iops:
            yield Mistake(f"{option}.iops", "is for volume_type io1 alone", str(self.iops))
        if self.iops and size is not None and self.iops > size * _MOST_IOPS_PER_GIB:
            yield Mistake(f"{option}.iops", f"must be at most {_MOST_IOPS_PER_GIB} for each GiB", str(self.iops))
        if not root and self.snapshot_id is None and self.volume_size is None:
            yield Mistake(f"{option}.volume_size", "is required without a snapshot_id")

    def device(self) -> ImageDevice:
        """The mapping as the API takes it."""
        return ImageDevice(
            device_name=self.device_name,
            bsu=Bsu(
                snapshot_id=self.snapshot_id,
                volume_size=self.volume_size,
                volume_type=self.volume_type,
                iops=self.iops or None,
                delete_on_vm_deletion=self.delete_on_vm_deletion,
            ),
        )


class OmiOptions(BaseModel):
    """The seed builder's options of the OMI, and what it carries over from its source."""

    omi_name: OmiName | None = Field(
        default=None,
        title="OMI name",
        description="Name of the OMI. Default: {{source_name}}-{{timestamp}}-{{run_id}}.",
        json_schema_extra=at(5),
    )
    omi_description: OmiText | None = Field(
        default=None,
        title="OMI description",
        description="Default: the source OMI's.",
        max_length=DESCRIPTION_LENGTH - 60,
        json_schema_extra=at(11),
    )
    omi_account_ids: list[AccountId] = Field(
        default_factory=list,
        title="Accounts",
        description="Accounts that may launch the OMI and make volumes of its snapshot.",
        json_schema_extra=at(12),
    )
    snapshot_account_ids: list[AccountId] = Field(
        default_factory=list,
        title="Snapshot accounts",
        description="Further accounts that may make volumes of the snapshot.",
        json_schema_extra=at(13),
    )
    global_permission: bool = Field(
        default=False,
        title="Public",
        description="Let everybody launch the OMI. Its snapshot stays private.",
        json_schema_extra=at(14),
    )
    tags: dict[OmiText, OmiText] = Field(
        default_factory=dict, title="Tags", description="Of the OMI and its snapshot.", json_schema_extra=at(15)
    )
    snapshot_tags: dict[OmiText, OmiText] = Field(
        default_factory=dict,
        title="Snapshot tags",
        description="Of the snapshot; they win over tags.",
        json_schema_extra=at(16),
    )
    omi_boot_modes: list[BootMode] | None = Field(
        default=None, title="Boot modes", description="Default: the source OMI's.", json_schema_extra=at(17)
    )
    omi_tpm_mandatory: bool | None = Field(
        default=None,
        title="TPM",
        description="Whether VMs of the OMI must have a TPM. Default: as the source OMI says.",
        json_schema_extra=at(18),
    )
    omi_architecture: Literal["i386", "x86_64"] | None = Field(
        default=None,
        title="Architecture",
        description="Default: the source OMI's; from scratch x86_64.",
        json_schema_extra=at(19),
    )
    product_codes: list[str] | None = Field(
        default=None,
        title="Product codes",
        description="Default: the source OMI's; an empty list is none.",
        json_schema_extra=at(20),
    )
    force_deregister: bool = Field(
        default=False,
        title="Replace the OMI",
        description="Take the place of this account's OMI of that name, which is deleted once the new one is good.",
        json_schema_extra=at(21),
    )
    force_delete_snapshot: bool = Field(
        default=False,
        title="Delete its snapshots, too",
        description="With force_deregister: delete the old OMI's snapshots at the end, but those that are still used.",
        json_schema_extra=at(22),
    )
    root_device_name: str | None = Field(
        default=None,
        title="Root device",
        description="From scratch: which of omi_block_device_mappings is the root; the API wants /dev/sda1.",
        pattern=r"^/dev/sda1$",
        json_schema_extra=at(23),
    )
    omi_block_device_mappings: list[BlockDeviceMapping] = Field(
        default_factory=list,
        title="Block device mappings",
        description="From scratch: the disks of the OMI, the root's among them.",
        json_schema_extra=at(24),
    )
    omi_product_codes: list[str] | None = Field(
        default=None,
        title="Product codes (old name)",
        description="The same as product_codes.",
        json_schema_extra=at(120),
    )
    omi_regions: list[str] = Field(
        default_factory=list,
        title="Regions",
        description="The account's own region alone: the API copies to no other.",
        json_schema_extra=at(121),
    )
    omi_groups: list[str] = Field(
        default_factory=list,
        title="Groups",
        description="Does nothing: see global_permission.",
        json_schema_extra=at(122),
    )
    snapshot_groups: list[str] = Field(
        default_factory=list,
        title="Snapshot groups",
        description="Does nothing: a snapshot is shared by snapshot_account_ids.",
        json_schema_extra=at(123),
    )
    omi_virtualization_type: str | None = Field(
        default=None, title="Virtualization", description="Always hvm.", json_schema_extra=at(124)
    )

    @property
    def codes(self) -> list[str] | None:
        """Product codes under either name; None where neither is given."""
        return self.product_codes if self.product_codes is not None else self.omi_product_codes

    def mistakes_of_omi(self, *, from_scratch: bool, root_size: int | None) -> Iterator[Mistake]:
        """Options of the OMI that do not go together, or that this API cannot fulfil."""
        for option in ("omi_groups", "snapshot_groups"):
            if set(getattr(self, option)) - {"all"}:
                rule = "cannot be: this API knows accounts and everybody only; see omi_account_ids, global_permission"
                yield Mistake(option, rule)
        if self.omi_virtualization_type not in (None, "", "hvm"):
            yield Mistake("omi_virtualization_type", "must be hvm, the only one", str(self.omi_virtualization_type))
        both = self.product_codes, self.omi_product_codes
        if None not in both and both[0] != both[1]:
            yield Mistake("omi_product_codes", "is an old name of product_codes, which says something else")
        for option in ("tags", "snapshot_tags"):
            yield from tag_mistakes(option, getattr(self, option))
        if from_scratch:
            yield from self._mistakes_of_mappings(root_size)

    def _mistakes_of_mappings(self, root_size: int | None) -> Iterator[Mistake]:
        names = Counter(mapping.device_name for mapping in self.omi_block_device_mappings)
        for place, mapping in enumerate(self.omi_block_device_mappings):
            option = f"omi_block_device_mappings[{place}]"
            root = mapping.device_name == self.root_device_name
            if names[mapping.device_name] > 1:
                yield Mistake(f"{option}.device_name", "must be another one for each mapping", mapping.device_name)
            yield from mapping.mistakes(option, root=root, size=root_size if root else mapping.volume_size)
        if self.root_device_name is not None and self.omi_block_device_mappings and self.root_device_name not in names:
            rule = "must be the device_name of one of omi_block_device_mappings"
            yield Mistake("root_device_name", rule, self.root_device_name)

    def warnings_of_omi(self, *, from_scratch: bool) -> Iterator[str]:
        """Options that do nothing here, and why."""
        if "all" in self.omi_groups:
            yield "omi_groups does nothing: this API has no groups. global_permission: true makes the OMI public"
        if "all" in self.snapshot_groups:
            yield "snapshot_groups does nothing: this API has no groups. snapshot_account_ids names accounts"
        if self.omi_product_codes is not None:
            yield "omi_product_codes is an old name: use product_codes"
        if self.omi_regions:
            yield "omi_regions does nothing: the OMI is in the account's region, and the API copies to no other"
        if self.omi_virtualization_type is not None:
            yield "omi_virtualization_type does nothing: every OMI is hvm"
        if self.force_delete_snapshot and not self.force_deregister:
            yield "force_delete_snapshot does nothing without force_deregister"
        if not from_scratch and self.omi_block_device_mappings:
            yield "omi_block_device_mappings is not used: the OMI has the disks of its source (see from_scratch)"
        if not from_scratch and self.root_device_name is not None:
            yield "root_device_name is not used: it is the source OMI's (see from_scratch)"
        for mapping in self.omi_block_device_mappings if from_scratch else ():
            if mapping.device_name == self.root_device_name and (mapping.snapshot_id or mapping.volume_size):
                yield "the root's snapshot_id and volume_size are not used: it has the new snapshot, root_volume_size"


def tag_mistakes(option: str, tags: dict[str, str]) -> Iterator[Mistake]:
    """Tags that are too long as rendered, or that are ours."""
    for key, value in tags.items():
        bare_key, bare_value = (re.sub(r"\{\{.*?\}\}", "x", text) for text in (key, value))
        if not 1 <= len(bare_key) <= _TAG_LENGTH:
            yield Mistake(option, f"a key must be of 1 to {_TAG_LENGTH} characters", key[:60])
        if len(bare_value) > _TAG_LENGTH:
            yield Mistake(f"{option}.{key}", f"must be at most {_TAG_LENGTH} characters long", value[:60])
        if key in OWN_TAGS:
            yield Mistake(f"{option}.{key}", "is a tag by which Image Bakery knows its own resources")
