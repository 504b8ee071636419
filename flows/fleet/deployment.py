"""What `deployment:` in a definition says: when it is built, where, and on which events."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.events import DeploymentTriggerTypes
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from tasks.quantities import Seconds

WORK_POOL = "bakery"
"""The work pool of all deployments that name no other."""
QUEUE = "default"
"""The queue that Prefect gives every work pool."""


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ScheduleOptions(_Options):
    """When a definition is built: exactly one of `cron`, `interval` and `rrule`."""

    cron: str | None = Field(default=None, description="Such as 0 3 * * 1: Mondays at three.")
    interval: Seconds | None = Field(default=None, gt=0, description="Time between two builds.")
    rrule: str | None = Field(default=None, description="A recurrence rule (RFC 5545).")
    timezone: str = Field(default="UTC", description="Time zone of cron and rrule, such as Europe/Paris.")
    active: bool = Field(default=True, description="Whether this schedule starts builds.")
    slug: str | None = Field(default=None, description="The schedule's own name.", min_length=1)

    @model_validator(mode="after")
    def _is_a_schedule(self) -> ScheduleOptions:
        given = [name for name in ("cron", "interval", "rrule") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("must have exactly one of cron, interval and rrule")
        self.as_prefect()
        return self

    def as_prefect(self) -> SCHEDULE_TYPES:
        """The schedule in Prefect's own words.

        Raises:
            ValueError: Prefect takes no such cron, rule or time zone.
        """
        if self.cron is not None:
            return CronSchedule(cron=self.cron, timezone=self.timezone)
        if self.rrule is not None:
            return RRuleSchedule(rrule=self.rrule, timezone=self.timezone)
        return IntervalSchedule(interval=timedelta(seconds=self.interval or 0), timezone=self.timezone)


class QueueOptions(_Options):
    """A work queue, and how many of its builds may run at once."""

    name: str = Field(min_length=1, description="The queue's name; a worker takes from it with --work-queue NAME.")
    concurrency_limit: int | None = Field(
        default=None, ge=1, description="How many builds of this queue may run at once, whichever their definitions."
    )


def _named(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


def _limited(given: Any) -> Any:
    return {"limit": given} if isinstance(given, int) and not isinstance(given, bool) else given


def _on_self_hosted(trigger: DeploymentTriggerTypes) -> DeploymentTriggerTypes:
    if trigger.type == "metric":
        raise PydanticCustomError("metric_trigger", "is a metric trigger, which only Prefect Cloud has")
    return trigger


Trigger = Annotated[
    DeploymentTriggerTypes, AfterValidator(_on_self_hosted), WithJsonSchema({"type": "object", "title": "trigger"})
]


class DeploymentOptions(_Options):
    """What a definition's deployment is like."""

    schedule: ScheduleOptions | None = Field(default=None, description="When it is built.")
    schedules: list[ScheduleOptions] = Field(default_factory=list, description="In place of schedule, several.")
    tags: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, description="Tags of the deployment and of its runs."
    )
    work_pool: str = Field(default=WORK_POOL, min_length=1, description="The work pool whose workers build it.")
    work_queue: Annotated[QueueOptions, BeforeValidator(_named)] = Field(
        default=QueueOptions(name=QUEUE),
        description="A queue of that pool: its name, or {name: …, concurrency_limit: N}. A queue for each OUTSCALE VM "
        "says where a chroot build runs; one for a project limits what its quota has to bear.",
    )
    concurrency_limit: Annotated[ConcurrencyLimitConfig | None, BeforeValidator(_limited)] = Field(
        # One after the other, so that of two events the later finds what the earlier has built.
        default=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
        description="How many builds of this definition may run at once: N, or {limit: N, collision_strategy: ENQUEUE "
        "or CANCEL_NEW}. Default: 1, the others wait.",
    )
    triggers: list[Trigger] = Field(
        default_factory=list, description="Events that start a build, as in a prefect.yaml."
    )
    paused: bool | None = Field(
        default=None, description="Whether its schedules rest. Absent: as it was set on the server."
    )
    description: str | None = Field(default=None, description="Shown with the deployment.")

    @model_validator(mode="after")
    def _schedules_in_one_way(self) -> DeploymentOptions:
        if self.schedule is not None and self.schedules:
            raise ValueError("gives schedule and schedules: one is enough")
        return self

    @property
    def all_schedules(self) -> list[ScheduleOptions]:
        """However they are given."""
        return [self.schedule] if self.schedule is not None else self.schedules
