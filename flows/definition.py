"""What the build definitions of all builders share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from blocks.errors import Mistake
from blocks.forms import plain_optionals
from blocks.settings import settings
from flows.forms import Section
from tasks.cloud import Cloud
from tasks.digest import digest_of
from tasks.manifest import mistakes_of_manifest
from tasks.provisioners import Breakpoint, Provisioner
from tasks.provisioners.common import on_this_host
from tasks.quantities import Seconds
from tasks.run import Run
from tasks.source_image import SourceImage

BUILD_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
BUILD_NAME_LENGTH = 60


RunT = TypeVar("RunT", bound=Run)

_NOT_WHAT_IS_MADE = frozenset(
    {"definition_file", "on_error", "keep_for", "build_timeout", "manifest", "manifest_custom_data"}
)


def at(position: int) -> JsonDict:
    """An option's place in the form."""
    return {"position": position}


class BuildDefinition(BaseModel, ABC, Generic[RunT]):
    """What the definitions of all builders share."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)
    builder: ClassVar[str]
    """The builder's name, as in Packer."""
    flow_name: ClassVar[str]
    """The flow that builds a definition of this kind, as Prefect calls it."""
    command: ClassVar[str]
    """The command line that builds a definition of this kind."""
    sections: ClassVar[Sequence[Section]] = ()
    """Of the form, besides the options at its top."""
    usual_steps: ClassVar[int]
    """How many steps a build has besides its provisioners, to tell how far it is."""
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Options that people write and this builder has not, and what to tell them."""
    source_options: ClassVar[Sequence[str]]
    """The options that say what is started from, where that is no other definition's image; the first takes an id."""

    build_name: str = Field(
        default="image",
        title="Build name",
        description="What {{build_name}} stands for, and the build page's key. Default in a file: the file's name.",
        pattern=BUILD_NAME,
        max_length=BUILD_NAME_LENGTH,
        json_schema_extra={"position": 0},
    )

    on_error: Literal["cleanup", "keep", "ask"] = Field(
        default="cleanup",
        title="On error",
        description="What becomes of a build that fails. cleanup: it is removed. keep: it is kept for keep_for, and a "
        "retry goes on at the provisioner that failed. ask: a person is asked, in the UI or at the terminal.",
        json_schema_extra={"position": 800},
    )
    keep_for: Seconds = Field(
        default=24 * 3600,
        gt=0,
        le=30 * 24 * 3600,
        title="Keep for",
        description="How long from its start a build that failed is kept; it also ends by then.",
        json_schema_extra={"position": 801},
    )
    build_timeout: Seconds | None = Field(
        default=None,
        gt=0,
        le=23 * 3600,
        title="Build time-out",
        description="How long the whole build may take, pauses included. Default: 6h.",
        json_schema_extra={"position": 802},
    )
    provisioners: list[Provisioner] = Field(
        default_factory=list,
        title="Provisioners",
        description="What is done to the system, in this order.",
        json_schema_extra={"position": 6},
    )

    error_cleanup_provisioner: Provisioner | None = Field(
        default=None,
        title="Error clean-up",
        description="Run when a provisioner has failed or the build is ended while they run, within its own timeout "
        "or 5 minutes.",
        json_schema_extra={"position": 810},
    )

    manifest: str | None = Field(
        default=None,
        title="Manifest",
        description="Append what was made to this file of the host that builds, as Packer's manifest post-processor "
        "does: packer-manifest.json.",
        min_length=1,
        json_schema_extra={"position": 803},
    )
    manifest_custom_data: dict[str, str] = Field(
        default_factory=dict,
        title="Custom data of the manifest",
        description="More for those who read the manifest.",
        json_schema_extra={"position": 804},
    )

    definition_file: str | None = Field(
        default=None,
        title="Definition file",
        description="Where this definition was read from: relative paths resolve against its directory.",
        json_schema_extra={"position": 900},
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return plain_optionals(handler.resolve_ref_schema(handler(core)))

    @property
    def base(self) -> Path:
        """The directory against which relative paths resolve."""
        return Path(self.definition_file).parent if self.definition_file else Path()

    @property
    def keeps(self) -> bool:
        """Whether a build that fails may be kept."""
        return self.on_error != "cleanup"

    @property
    def deadline(self) -> float:
        """Seconds after which a build ends itself. One that may be kept ends before others may remove it."""
        timeout = self.build_timeout or settings().build_timeout
        return min(timeout, self.keep_for) if self.keeps else timeout

    @abstractmethod
    def cloud(self) -> AbstractAsyncContextManager[Cloud[RunT]]:
        """Open the cloud that this definition builds on, with the credentials that it leads to.

        Raises:
            CredentialsError: there are none.
            SecretUnavailable: a reference leads nowhere.
        """

    @abstractmethod
    def mistakes_of_source(self) -> Iterator[Mistake]:
        """What is missing of the source options, where the source is not another definition's image."""

    @abstractmethod
    async def find_source(self, run: RunT) -> SourceImage | None:
        """The image that a build would start from now; None when it starts from nothing.

        Raises:
            NotFound: there is none.
            Ambiguous, InvalidRequest: there are several.
        """

    @abstractmethod
    async def has_image(self, run: RunT, image_id: str) -> bool:
        """Whether an image of this builder exists and may be seen."""

    @classmethod
    def built_upon(cls, given: Any, image_id: str) -> Any:
        """A definition, or its fields, with another image to start from."""
        option, *others = cls.source_options
        if isinstance(given, BaseModel):
            defaults = {other: cls.model_fields[other].get_default() for other in others}
            return given.model_copy(update={**defaults, option: image_id})
        return {**{name: value for name, value in given.items() if name not in others}, option: image_id}

    def files_named(self) -> list[tuple[str, str]]:
        """The files of this host that become part of the image: which option names each, and its path there."""
        names = (self.builder, self.build_name, f"{self.builder}.{self.build_name}")
        return [
            (f"provisioners[{place}].{option}", path)
            for place, provisioner in enumerate(self.provisioners)
            if (ours := provisioner.for_build(names)) is not None
            for option, path in ours.files_here()
        ]

    async def digest(self, source: str | None = None) -> str:
        """A digest of what a build makes: the options that are set, and the scripts and files that they name.

        Args:
            source: The definition whose current image this one starts from; then the image's id does not count.
        """
        unsaid = {*_NOT_WHAT_IS_MADE, *(self.source_options if source else ())}
        said = self.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=unsaid)
        return await asyncio.to_thread(digest_of, [self.builder, source, said], self.files_named(), self.base)

    @property
    @abstractmethod
    def place_by_hand(self) -> Mapping[str, str]:
        """Where a person looks for what a build left: `cloud`, and on Oxide the `project`."""

    def mistakes_here(self) -> list[Mistake]:
        """What only the host that builds can tell: files that are named and are not there."""
        found = [
            mistake
            for place, provisioner in enumerate(self.provisioners)
            for mistake in provisioner.missing_here(self.base, f"provisioners[{place}]")
        ]
        if self.error_cleanup_provisioner is not None:
            found += self.error_cleanup_provisioner.missing_here(self.base, "error_cleanup_provisioner")
        if self.manifest is not None:
            found += mistakes_of_manifest(on_this_host(self.base, self.manifest), self.manifest)
        return found

    def mistakes_with_nobody_to_ask(self) -> list[Mistake]:
        """What cannot be done where there is neither a UI nor a terminal."""
        rule = "needs somebody to ask: a Prefect server with its UI, or a terminal"
        found = [Mistake("on_error", f"{rule}; keep does not", "ask")] if self.on_error == "ask" else []
        return found + [
            Mistake(f"provisioners[{place}]", f"{rule}; or disable it", "breakpoint")
            for place, provisioner in enumerate(self.provisioners)
            if isinstance(provisioner, Breakpoint) and not provisioner.disable
        ]

    def as_yaml(self) -> str:
        """The options that are set, as YAML. Secrets are references, so nothing secret is in it."""
        data = self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"definition_file"})
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
