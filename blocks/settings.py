"""Settings that are no part of a build: default deadlines, poll steps, retry times, paths.

Each can be set by an environment variable: `IMAGE_BAKERY_` and the field's name, such as
`IMAGE_BAKERY_BUILD_TIMEOUT=3600`. All times are seconds.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What an operator may tune for all builds of a host."""

    model_config = SettingsConfigDict(env_prefix="IMAGE_BAKERY_", frozen=True)

    server: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]+$",
        max_length=64,
        description="The Prefect server's name in marks. Unset: read from the server; `local`: no lasting server.",
    )
    state_dir: Path = Field(
        default=Path("~/.local/state/image-bakery"),
        description="Where this host keeps its own log of teardowns, for when no Prefect server can be reached, and "
        "the request times that all its builds share.",
    )
    build_timeout: float = Field(
        default=6 * 3600,
        gt=0,
        le=23 * 3600,
        description="A build ends itself after this time, pauses included.",
    )
    api_timeout: float = Field(
        default=60, gt=0, description="How long one API request may take. Oxide works inside its requests."
    )
    api_retry_time: float = Field(
        default=60, ge=0, description="How long a request is tried again while the fault is one that passes."
    )
    outscale_rate: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Requests in any second to one OUTSCALE endpoint with one access key, all builds of this host "
        "together. The official clients hold themselves to 5.",
    )
    outscale_metadata: str = Field(
        default="http://169.254.169.254",
        description="Where an OUTSCALE VM asks which VM it is: URL of the metadata service, without /latest.",
    )
    poll_first: float = Field(default=0.1, gt=0, description="Shortest pause between two looks at a cloud's state.")
    poll_longest: float = Field(default=2, gt=0, description="Longest pause between two looks.")
    start_timeout: float = Field(default=300, gt=0, description="From an instance's creation until it runs.")
    snapshot_timeout: float = Field(
        default=3600, gt=0, description="How long a cloud may take to complete a snapshot, or an image of it."
    )
    shutdown_timeout: float = Field(
        default=120,
        gt=0,
        description="How long a guest may take to shut itself down before its power is cut.",
    )
    stop_timeout: float = Field(default=120, gt=0, description="From cutting the power until it is off.")
    teardown_timeout: float = Field(
        default=900, gt=0, description="How long a teardown goes on trying before it reports what is left."
    )
    settle_time: float = Field(
        default=30,
        ge=0,
        description="How long a teardown looks on for what a create, whose reply was never seen, may still make.",
    )
    heartbeat_window: float = Field(
        default=600,
        gt=0,
        description="A run of another host counts as dead when it sent no heartbeat for this time. Prefect's flows "
        "send one every 3 minutes (PREFECT_FLOWS_HEARTBEAT_FREQUENCY).",
    )
    provisioner_retry_pause: float = Field(
        default=1,
        ge=0,
        description="Pause before a provisioner with max_retries is tried again; it doubles with each try, up to 60 s.",
    )
    cancel_poll: float = Field(
        default=3,
        gt=0,
        description="How often a build looks whether it was cancelled.",
    )


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
