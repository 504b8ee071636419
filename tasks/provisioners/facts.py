"""What scripts and templates may know about the build that runs them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

from blocks.errors import ProvisionerFailed
from tasks.run import Run

_BUILD = re.compile(r"\{\{-?\s*build\s*(?:\.\s*|\s[`\"'])(\w+)[`\"']?\s*-?\}\}")

_NEVER = {
    "Password": "secrets are not for templates: use env with a reference",
    "SSHPrivateKey": "secrets are not for templates",
    "WinRMPassword": "WinRM is not supported",
    "PackerHTTPIP": "a build has no HTTP server of its own",
    "PackerHTTPPort": "a build has no HTTP server of its own",
    "PackerHTTPAddr": "a build has no HTTP server of its own",
}


@dataclass(frozen=True)
class BuildFacts:
    """What a flow knows about its build, for scripts (as variables) and templates (`{{build.ID}}`).

    What is empty is not known in this kind of build: its variable is not set, and a template that asks is an error.
    """

    build_name: str = ""
    builder: str = ""
    run_id: str = ""
    """The flow run's id."""
    attempt: int = 1
    source_name: str = ""
    """The source image's name."""
    source_id: str = ""
    instance_id: str = ""
    """Id of the temporary instance, or of the VM on which a chroot is provisioned."""
    host: str = ""
    """Where the instance answers."""
    port: int | None = None
    user: str = ""
    """Who the build logs in as."""
    connection: str = ""
    """`ssh`, or `none` where there is no connection."""
    public_key: str = ""
    """The temporary key's public half, as a line of authorized_keys."""

    @classmethod
    def of(cls, run: Run, *, build_name: str, builder: str, **known: Any) -> Self:
        """The facts of a run whose source image has been looked up."""
        return cls(
            build_name=build_name,
            builder=builder,
            run_id=str(run.id),
            attempt=run.attempt,
            source_name=run.source.get("name", ""),
            source_id=run.source.get("id", ""),
            **known,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """What `only`, `except` and `override` may call this build, the most particular last."""
        return (self.builder, self.build_name, f"{self.builder}.{self.build_name}")

    def variables(self) -> dict[str, str]:
        """Environment variables that every script sees; those named PACKER_ as with Packer."""
        values = {
            "PACKER_BUILD_NAME": self.build_name,
            "PACKER_BUILDER_TYPE": self.builder,
            "PACKER_RUN_UUID": self.run_id,
            "BAKERY_BUILD_NAME": self.build_name,
            "BAKERY_BUILDER": self.builder,
            "BAKERY_RUN_ID": self.run_id,
            "BAKERY_ATTEMPT": str(self.attempt),
            "BAKERY_SOURCE_IMAGE_NAME": self.source_name,
            "BAKERY_SOURCE_IMAGE_ID": self.source_id,
            "BAKERY_INSTANCE_ID": self.instance_id,
            "BAKERY_HOST": self.host,
        }
        return {name: value for name, value in values.items() if value}

    def rendered(self, text: str) -> str:
        """The text with `{{build.NAME}}`, also written ``{{ build `NAME` }}``, in place.

        Raises:
            ProvisionerFailed: it asks for what this kind of build does not know.
        """
        values = _values(self)

        def value(match: re.Match[str]) -> str:
            if not values.get(match[1]):
                raise ProvisionerFailed(
                    f"{match[0]} has no value in this build",
                    resource=f"builder {self.builder}",
                    hint="It is known where a build makes an instance and connects to it.",
                )
            return values[match[1]]

        return _BUILD.sub(value, text)


def _values(facts: BuildFacts) -> dict[str, str]:
    """By the names of templates: Packer's, and after them our own."""
    return {
        "ID": facts.instance_id,
        "Host": facts.host,
        "Port": str(facts.port or ""),
        "User": facts.user,
        "ConnType": facts.connection,
        "PackerRunUUID": facts.run_id,
        "SSHPublicKey": facts.public_key,
        "name": facts.build_name,
        "type": facts.builder,
        "Attempt": str(facts.attempt),
        "SourceImageName": facts.source_name,
        "SourceImageID": facts.source_id,
    }


def has_facts(text: str) -> bool:
    """Whether a text asks for facts."""
    return _BUILD.search(text) is not None


def wrong_facts(text: str) -> list[str]:
    """What is wrong with the facts that a text asks for, each as a rule."""
    known = _values(BuildFacts())
    there_are = f"there are {', '.join(known)}"
    return [
        f"asks for build.{name}: {_NEVER.get(name, there_are)}" for name in _BUILD.findall(text) if name not in known
    ]


def without_wrong_facts(text: str) -> str:
    """The text with facts that there are in place of those that there are not, to see what else is wrong with it."""
    known = _values(BuildFacts())
    return _BUILD.sub(lambda match: match[0] if match[1] in known else "{{build.ID}}", text)
