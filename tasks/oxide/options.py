"""All options of the `oxide-instance` builder that are not about credentials, SSH or provisioners."""

from __future__ import annotations

import re
from collections.abc import Mapping

from blocks.errors import DefinitionError, Mistake
from blocks.oxide.models import NAME_LENGTH, NAME_PATTERN, Image
from tasks.mark import without_provenance
from tasks.naming import oxide_name, render, shortened
from tasks.oxide.image_options import ImageOptions
from tasks.oxide.instance_options import InstanceOptions
from tasks.oxide.plan import ImagePlan
from tasks.oxide.run import OxideRun


class OxideOptions(InstanceOptions, ImageOptions):
    """What is baked, of what, and on what kind of instance."""

    def image_name(self, values: Mapping[str, str]) -> str:
        """The artifact's name. A default that would be too long is cut in the source's name, never in its suffix.

        Raises:
            DefinitionError: the variables' values make it no valid name.
        """
        if self.artifact_name is None:
            suffix = oxide_name("-{{timestamp}}-{{run_id}}", values)
            return shortened(oxide_name("{{source_name}}", values), suffix, NAME_LENGTH)
        return rendered_name("artifact_name", self.artifact_name, values)

    def instance_name(self, run: OxideRun, values: Mapping[str, str]) -> str:
        """The name of instance, boot disk, network interface and snapshot."""
        return rendered_name("name", self.name, values) if self.name else run.owned_name()

    def host_name(self, run: OxideRun, values: Mapping[str, str]) -> str:
        """The instance's own name for itself."""
        return rendered_name("hostname", self.hostname, values) if self.hostname else run.owned_name()

    def temporary_key_name(self, run: OxideRun, values: Mapping[str, str]) -> str:
        """The name of the public half of the temporary key on the rack."""
        name = self.temporary_key_pair_name
        return rendered_name("temporary_key_pair_name", name, values) if name else run.owned_name("key")

    def image_plan(self, values: Mapping[str, str], source: Image) -> ImagePlan:
        """The artifact, as it is to be."""
        return ImagePlan(
            name=self.image_name(values),
            description=render(self.artifact_description or "", values) or without_provenance(source.description),
            os=render(self.artifact_os or "", values) or source.os,
            version=render(self.artifact_version or "", values) or source.version,
            project=None if self.promote else self.project,
        )


def rendered_name(option: str, text: str, values: Mapping[str, str]) -> str:
    """An option's name with its variables' values in it.

    Raises:
        DefinitionError: they make it no valid name.
    """
    name = oxide_name(text, values)
    if len(name) > NAME_LENGTH or not re.fullmatch(NAME_PATTERN, name):
        rule = f"must be at most {NAME_LENGTH} lower-case letters, digits and hyphens, from a letter, when rendered"
        raise DefinitionError([Mistake(option, rule, name)])
    return name
