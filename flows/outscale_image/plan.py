"""What a build is going to do: everything is asked and checked, and nothing created yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.errors import BakeryError, DefinitionError, EndedBadly, InvalidRequest, Mistake, NotFound
from blocks.outscale.models import (
    Account,
    Bsu,
    Image,
    ImageCreate,
    ImageDevice,
    Snapshot,
    Vm,
    VolumeCreate,
    VolumeType,
)
from flows.outscale_image.definition import OutscaleImageDefinition
from flows.outscale_image.omi import DESCRIPTION_LENGTH
from flows.outscale_image.texts import NAME_LENGTH, OMI_NAME, Values
from flows.rehearsal import rehearsal
from tasks.mark import provenance
from tasks.naming import shortened, variables
from tasks.outscale.devices import is_taken
from tasks.outscale.omis import NewOmi, Share, omi_named
from tasks.outscale.run import OutscaleRun
from tasks.outscale.source import is_finished_by, root_device, view_vm, whose_account
from tasks.provision import labels
from tasks.step import in_time

_DEFAULT_NAME = "-{{timestamp}}-{{run_id}}"


@dataclass(frozen=True)
class Plan:
    """A build, as far as it can be told beforehand."""

    definition: OutscaleImageDefinition
    run: OutscaleRun
    account: Account
    vm: Vm
    source: Image | None
    """The source OMI; from scratch there is none."""
    values: Values
    name: str
    """The OMI's."""
    named: Image | None
    """This account's OMI of that name, as it is now."""

    @property
    def finished(self) -> Image | None:
        """This run's own OMI, when an earlier attempt finished it."""
        return self.named if self.named is not None and is_finished_by(self.run, self.named) else None

    @property
    def old(self) -> Image | None:
        """The OMI whose place the new one is to take."""
        if self.named is None or self.finished or self.run.owns_description(self.named.description):
            return None
        return self.named

    @property
    def foreign(self) -> bool:
        """Whether the source OMI belongs to another account."""
        return self.source is not None and self.source.account_id != self.account.account_id

    @property
    def description(self) -> str:
        """The finished OMI's: the user's or the source's, and where the OMI came from."""
        asked = self.definition.omi_description
        text = self.values.text(asked) if asked is not None else self.source.description if self.source else ""
        origin = provenance(self.run.id)
        return f"{text[: DESCRIPTION_LENGTH - len(origin) - 1]} {origin}".strip()

    @property
    def tags(self) -> dict[str, str]:
        """Of the OMI and its snapshots."""
        return self.values.tags(self.definition.tags)

    @property
    def snapshot_tags(self) -> dict[str, str]:
        """Of the snapshots; they win."""
        return self.values.tags(self.definition.snapshot_tags)

    @property
    def root_volume_tags(self) -> dict[str, str]:
        """Of the temporary volume."""
        return self.values.tags(self.definition.root_volume_tags)

    @property
    def share(self) -> Share:
        """Who else may use the OMI."""
        asked = self.definition
        return Share(asked.omi_account_ids, asked.snapshot_account_ids, asked.global_permission)

    def volume(self, base: Image | None) -> VolumeCreate:
        """The temporary volume: of the root's snapshot of the source or its copy, or empty."""
        root = root_device(base).bsu if base is not None else None
        kind = self._volume_type(root)
        return VolumeCreate(
            subregion_name=self.vm.placement.subregion_name,
            client_token=self.run.token("volume"),
            snapshot_id=root.snapshot_id if root else None,
            size=self.definition.root_volume_size or (root.volume_size if root else None),
            volume_type=kind,
            iops=root.iops if root and kind == "io1" else None,
        )

    def _volume_type(self, root: Bsu | None) -> VolumeType | None:
        if self.definition.root_volume_type is not None:
            return self.definition.root_volume_type
        match root.volume_type if root else "gp2":
            case "standard" | "gp2" | "io1" as kind:
                return kind
            case _:
                return None

    def omi(self, base: Image | None, snapshot: Snapshot, *, copied: bool = False) -> NewOmi:
        """The OMI: its source's or what the definition says, with the new snapshot as its root.

        Args:
            base: The source OMI or its copy.
            snapshot: The new snapshot.
            copied: Whether `base` is a copy: then its other disks' snapshots are ours, too.
        """
        request = self._request(base, snapshot)
        mapped = [device.bsu.snapshot_id for device in request.block_device_mappings or () if device.bsu]
        others = [other for other in mapped if other and other != snapshot.snapshot_id] if copied else []
        snapshots = [snapshot.snapshot_id, *others]
        return NewOmi(request, snapshots, self.tags, self.snapshot_tags, self.share, self.description)

    def _request(self, base: Image | None, snapshot: Snapshot) -> ImageCreate:
        asked = self.definition
        modes = asked.omi_boot_modes if asked.omi_boot_modes is not None else base.boot_modes if base else []
        mandatory = asked.omi_tpm_mandatory
        if mandatory is None and base is not None:
            mandatory = base.tpm_mandatory
        codes = asked.codes if asked.codes is not None or base is None else base.product_codes or None
        root = base.root_device_name if base else asked.root_device_name
        mapped = base.block_device_mappings if base else [given.device() for given in asked.omi_block_device_mappings]
        devices = [self._root(device, base, snapshot) if device.device_name == root else device for device in mapped]
        return ImageCreate.model_validate(
            {
                "image_name": self.name,
                "architecture": asked.omi_architecture or (base.architecture if base else "") or "x86_64",
                "root_device_name": root,
                "block_device_mappings": devices,
                "boot_modes": modes or None,
                "tpm_mandatory": mandatory or None,
                "product_codes": codes,
            }
        )

    def _root(self, device: ImageDevice, base: Image | None, snapshot: Snapshot) -> ImageDevice:
        asked, bsu = self.definition.root_volume_type, device.bsu or Bsu()
        # From scratch the mapping may ask for another type than that of the temporary volume.
        kind = asked or bsu.volume_type if base else bsu.volume_type or self._volume_type(None)
        changed = {
            "snapshot_id": snapshot.snapshot_id,
            "volume_size": snapshot.volume_size or self.definition.root_volume_size or bsu.volume_size,
            "volume_type": kind,
            "iops": bsu.iops if kind == "io1" else None,
        }
        return device.model_copy(update={"bsu": bsu.model_copy(update=changed)})

    def mistakes(self) -> Iterator[Mistake]:
        """What only the region could tell is wrong with the definition."""
        asked = self.definition
        yield from asked.mistakes_of_region(self.run.client.region)
        if not OMI_NAME.fullmatch(self.name):
            rule = "must be 3 to 128 letters, digits, blanks and any of _ ( ) / . - when rendered"
            yield Mistake("omi_name", rule, self.name)
        if self.old is not None and not asked.force_deregister:
            rule = f"is taken by {self.old.image_id}: choose another, or take its place (force_deregister: true)"
            yield Mistake("omi_name", rule, self.name)
        for option, tags in (
            ("tags", self.tags),
            ("snapshot_tags", self.snapshot_tags),
            ("root_volume_tags", self.root_volume_tags),
        ):
            yield from _tags_as_rendered(option, tags)
        if (name := asked.link_name) is not None and is_taken(self.vm, name):
            yield Mistake("device_path", f"is taken on VM {self.vm.vm_id}: leave it out, or name a free one", name)
        if (node := asked.nvme_device_path) is not None and Path(node).exists():
            yield Mistake("nvme_device_path", "is there before the volume is linked: it is another disk", node)
        if self.source is not None:
            yield from self._mistakes_of_source(self.source)

    def _mistakes_of_source(self, source: Image) -> Iterator[Mistake]:
        try:
            root = root_device(source).bsu or Bsu()
        except EndedBadly as error:
            yield Mistake(self._source_option, f"{error.what}. {error.hint}", str(error.resource))
            return
        size, kind = self.definition.root_volume_size, self.definition.root_volume_type
        if size is not None and root.volume_size is not None and size < root.volume_size:
            rule = f"must be at least the source OMI's size, {root.volume_size} GiB"
            yield Mistake("root_volume_size", rule, str(size))
        if kind == "io1" and root.volume_type != "io1":
            yield Mistake("root_volume_type", "must be io1 in the source OMI, too: that says how many IOPS", "io1")

    @property
    def _source_option(self) -> str:
        return "source_omi" if self.definition.source_omi else "source_omi_filter"

    def report(self) -> str:
        """What a person wants to know before the build: what is made of what, where, and what goes."""
        volume = self.volume(self.source)
        share = self.share
        rows: Mapping[str, Any] = {
            "Account": f"{self.account.account_id} in {self.run.client.region}",
            "VM": f"{self.vm.vm_id} in {self.vm.placement.subregion_name}",
            "Source": self._report_of_source(),
            "Volume": f"{volume.size} GiB, {volume.volume_type or 'standard'}, as {self._device}",
            "Provisioners": ", ".join(labels(self.definition.provisioners)) or "none",
            "OMI": self.name,
            "Replaces": f"{self.old.image_id} of {self.old.creation_date}" if self.old else "",
            "Description": self.description,
            "Boot modes": ", ".join(self.definition.omi_boot_modes or (self.source.boot_modes if self.source else [])),
            "Launched by": "everybody" if share.everybody else ", ".join(share.accounts),
            "Tags": ", ".join(f"{key}={value}" for key, value in self.tags.items()),
            "Requests": f"{self.run.client.requests} so far",
        }
        lines = [f"{name + ':':<14}{value}" for name, value in rows.items() if value]
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.definition.warnings())])

    def _report_of_source(self) -> str:
        if self.source is None:
            return "none: from scratch"
        copied = f", copied first from account {self.source.account_id}" if self.foreign else ""
        return f"{self.source.image_name} ({self.source.image_id}){copied}"

    @property
    def _device(self) -> str:
        return self.definition.link_name or "a free /dev/xvdX"


def _tags_as_rendered(option: str, tags: Mapping[str, str]) -> Iterator[Mistake]:
    for key, value in tags.items():
        if not 1 <= len(key) <= 255:
            yield Mistake(option, "a key must be of 1 to 255 characters when rendered", key[:60])
        if len(value) > 255:
            yield Mistake(f"{option}.{key}", "must be at most 255 characters long when rendered", value[:60])


async def make_plan(run: OutscaleRun, definition: OutscaleImageDefinition) -> Plan:
    """Ask the region and this host what a build needs to know, and check the definition against it.

    Takes four requests at most, and changes nothing.

    Raises:
        DefinitionError: all mistakes that the region could tell.
        NotOnVm: this is no VM of the region, or one of another account.
    """
    client = run.client
    account = await in_time(run, "check credentials", whose_account(client))
    vm = await in_time(run, "VM info", view_vm(client))
    mistakes: list[Mistake] = []
    source: Image | None = None
    if not definition.from_scratch:
        try:
            source = await in_time(run, "source OMI info", definition.source_image(client, account.account_id))
        except (NotFound, InvalidRequest) as error:
            option = "source_omi_filter" if definition.source_omi_filter else "source_omi"
            mistakes.append(Mistake(option, _as_rule(error), error.resource))
    values = _values(run, definition, source)
    name = _name(definition, values)
    named: Image | None = None
    # Nobody else has a default name: it holds the run's id.
    if (source is not None or definition.from_scratch) and (definition.omi_name is not None or run.attempt > 1):
        named = await in_time(run, "check name", omi_named(client, account.account_id, name))
    plan = Plan(definition, run, account, vm, source, values, name, named)
    if mistakes := [*mistakes, *plan.mistakes()]:
        raise DefinitionError(mistakes, source="the build definition and its region")
    return plan


def _as_rule(error: BakeryError) -> str:
    return " ".join(
        part for part in (f"{error.what}:" if error.why else f"{error.what}.", error.why, error.hint) if part
    )


def _values(run: OutscaleRun, definition: OutscaleImageDefinition, source: Image | None) -> Values:
    source_name = source.image_name if source else ""
    house = variables(run.id, run.created, build_name=definition.build_name, source_name=source_name)
    tags = {tag.key: tag.value for tag in source.tags} if source else {}
    source_id = source.image_id if source else ""
    return Values.of(house, region=run.client.region, source_id=source_id, source_name=source_name, source_tags=tags)


def _name(definition: OutscaleImageDefinition, values: Values) -> str:
    """The OMI's name. A default that would be too long is cut in its first part, never in the suffix."""
    if definition.omi_name is not None:
        return values.name(definition.omi_name)
    first = "{{build_name}}" if definition.from_scratch else "{{source_name}}"
    return shortened(values.name(first), values.name(_DEFAULT_NAME), NAME_LENGTH)


async def plan_outscale_image(definition: OutscaleImageDefinition) -> Plan:
    """What a build would do if it began now; see `make_plan`. It needs no Prefect, and changes nothing."""
    async with rehearsal(definition) as run:
        return await make_plan(run, definition)
