"""A build's place in its fleet: whether it is its turn, what it starts from, and who is told how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.logging.loggers import flow_run_logger
from prefect.states import Completed
from pydantic import BaseModel

from blocks.errors import BakeryError
from flows.check import check
from flows.definition import BuildDefinition
from flows.fleet.decision import UNCHANGED, Decision, Present, conditions, decide
from flows.fleet.events import BLOCKED, BUILT, FAILED, SOURCE_UPDATED, Cause, tell
from flows.fleet.family import Family
from flows.fleet.fleet import Fleet
from flows.fleet.members import read_fleet_now, read_members
from flows.forms import without_sections
from flows.rehearsal import rehearsal
from tasks.current_image import GoodImage, read_currents, write_current
from tasks.masking import mask_error, masked
from tasks.page import publish
from tasks.run import Logger, Run

DefinitionT = TypeVar("DefinitionT", bound=BuildDefinition[Any])


class Unbuilt(BaseModel):
    """What a run returns that builds nothing."""

    id: str | None
    """The definition's current image."""
    state: str
    """Unchanged, Waiting for …, Blocked by …"""
    why: str

    def report(self) -> str:
        """What a person wants to read at the end."""
        return f"\n{self.state}: {self.why}"


@dataclass(frozen=True)
class Turn(Generic[DefinitionT]):
    """A build that is to be made."""

    definition: DefinitionT
    """With the source that it starts from."""
    name: str
    """How events call it."""
    in_fleet: bool
    """Whether the image that it makes becomes its definition's current one."""
    digest: str = ""
    parents: Mapping[str, str] = field(default_factory=dict)
    """The images of its parents, as they are now."""
    children: Sequence[str] = ()
    """The definitions that are built again once it has a new image."""


async def take_turn(
    model: type[DefinitionT],
    build: Any,
    *,
    name: str | None = None,
    family: Any = None,
    event: Any = None,
    resume: UUID | None = None,
) -> Turn[DefinitionT] | State[Any]:
    """See whether a definition is to be built now, and from which image.

    Args:
        model: Which builder's definition.
        build: The definition, or its fields.
        name: Its name in the fleet; None: it is built by hand, and belongs to none.
        family: Its parents, and when it is built again.
        event: What started the run, if that was an event: its payload.
        resume: A run whose kept build is gone on with: it was decided then that it is built.

    Returns:
        The turn, or the final state of a run that builds nothing.

    Raises:
        DefinitionError: the definition holds mistakes.
        BakeryError: its parent has no image.
    """
    relations = Family.model_validate(family or {})
    build = without_sections(model.sections, build)
    if name is None and relations == Family():
        definition = check(model, build)
        return Turn(definition, definition.build_name, in_fleet=False)
    definition = check(model, build, has_parent=relations.source is not None)
    cause = Cause.model_validate(event) if event else None
    try:
        fleet = Fleet({name or "": relations})
        if cause or relations != Family() or _is_deployed():
            async with get_client() as client:
                fleet = await _fleet(client, name, relations)
        own = _Own(definition, relations, fleet, fleet.images.get(name or ""), cause)
        return await own.turn(build, name, goes_on=_goes_on(resume))
    except Exception as error:
        mask_error(error)
        raise


async def with_source(definition: DefinitionT, family: Family) -> DefinitionT:
    """A definition with the image that it starts from, if that is another definition's: for a dry run.

    Raises:
        BakeryError: there is none, or nobody knows it.
    """
    if family.source is None:
        return definition
    async with get_client() as client:
        own = _Own(definition, family, await _fleet(client, None, family), None, None)
    return own.built_upon(definition, await own.source_of(family.source.definition))


def _is_deployed() -> bool:
    """Whether the server may know of definitions that are made from this one."""
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.deployment_id)


def _goes_on(resume: UUID | None) -> bool:
    """Whether an earlier attempt has already decided that this is built."""
    context = FlowRunContext.get()
    attempts = context.flow_run.run_count if context and context.flow_run else 1
    return resume is not None or attempts > 1


async def _fleet(client: PrefectClient, name: str | None, family: Family) -> Fleet:
    """The definition, its ancestors, and the families of all."""
    own = name or ""
    members = await read_members(client)
    families = {**{each: member.family for each, member in members.items()}, own: family}
    names = {own, *Fleet(families).ancestors(own)}
    return replace(await read_fleet_now(client, members, names), families=families)


@dataclass(frozen=True)
class _Own(Generic[DefinitionT]):
    """One definition in its fleet."""

    definition: DefinitionT
    family: Family
    fleet: Fleet
    image: GoodImage | None
    cause: Cause | None

    @property
    def parent(self) -> str | None:
        """The definition whose image is the source."""
        return self.family.source.definition if self.family.source else None

    async def turn(self, build: Any, name: str | None, *, goes_on: bool) -> Turn[DefinitionT] | State[Any]:
        digest = await self.definition.digest(self.parent)
        called = name or self.definition.build_name
        if not goes_on:
            decision = await self._decision(called, digest)
            if not decision.builds:
                if decision.state == UNCHANGED:
                    await self._wake_children(called)
                return await self._unbuilt(called, decision)
            get_run_logger().info("%s is built: %s", called, decision.why)
        definition = self.definition
        if self.parent is not None:
            definition = self.built_upon(build, await self.source_of(self.parent))
        parents = self.fleet.parents_now(name or "")
        children = self.fleet.children(name or "")
        return Turn(definition, called, in_fleet=name is not None, digest=digest, parents=parents, children=children)

    async def _decision(self, name: str, digest: str) -> Decision:
        asked = conditions(self.family, self.cause)
        image, source_id = self.image, None
        if image is not None and (asked is not None or self.cause is not None):
            async with rehearsal(self.definition) as run:
                if not await self.definition.has_image(run, image.id):
                    image = None
                elif self.parent is None and (asked is None or "source" in asked):
                    source = await self.definition.find_source(run)
                    source_id = source.id if source else ""
        present = Present(name, image, source_id, digest, datetime.now(UTC))
        return decide(self.family, self.cause, present, self.fleet)

    def built_upon(self, build: Any, image: str) -> DefinitionT:
        """The definition, started from an image."""
        model = type(self.definition)
        return check(model, model.built_upon(build, image))

    async def source_of(self, parent: str) -> str:
        """The parent's image.

        Raises:
            BakeryError: it has none, or it is gone.
        """
        known = self.fleet.images.get(parent)
        image = known.id if known else self.cause.image_of(parent) if self.cause else None
        resource = f"definition {parent}"
        hint = (
            f"Build {parent} first, on the same Prefect server (PREFECT_API_URL): by its deployment, or with python -m "
            "flows.build_all."
        )
        if image is None:
            raise BakeryError("it has no current image to start from", resource=resource, hint=hint)
        async with rehearsal(self.definition) as run:
            if not await self.definition.has_image(run, image):
                raise BakeryError(
                    "its current image is gone, or these credentials may not see it",
                    resource=resource,
                    why=f"image {image} is not there",
                    hint=hint,
                )
        return image

    async def _wake_children(self, name: str) -> None:
        """Start those that may have waited for this build, which is none. See `Fleet.hold_up`."""
        if self.cause is not None and self.cause.event == BUILT:
            return
        async with get_client() as client:
            members = await read_members(client)
            families = {each: member.family for each, member in members.items()}
            children = Fleet(families).descendants(name)
            if not children:
                return
            parents = {parent for child in children for parent in families[child].parents}
            fleet = Fleet(families, await read_currents(client, {*children, *parents}))
        for child in children:
            if fleet.is_behind(child) and child in fleet.images:
                news = {"parents": fleet.parents_now(child), "made_from": fleet.images[child].source_id}
                tell(SOURCE_UPDATED, child, news, get_run_logger())

    async def _unbuilt(self, name: str, decision: Decision) -> State[Any]:
        logger = get_run_logger()
        logger.info("%s. %s: %s", decision.state, name, decision.why)
        if decision.blocked_by is not None:
            tell(BLOCKED, name, {"by": decision.blocked_by, "run": _run_id()}, logger)
        page = f"# Image {self.definition.build_name}\n\n## {decision.state}\n\nNothing was built: {decision.why}."
        await publish(logger, f"{self.definition.builder}-{self.definition.build_name}", masked(page))
        unbuilt = Unbuilt(id=self.image.id if self.image else None, state=decision.state, why=decision.why)
        return Completed(name=decision.state, message=masked(decision.why), data=unbuilt)


def _run_id() -> str:
    context = FlowRunContext.get()
    return str(context.flow_run.id) if context and context.flow_run else ""


async def tell_built(turn: Turn[Any], run: Run) -> None:
    """Make the image that a build made its definition's current one, and tell those who wait for it."""
    if not run.made:
        return
    image = GoodImage(
        definition=turn.name,
        builder=turn.definition.builder,
        id=run.made["id"],
        name=run.made["name"],
        place=run.made.get("place") or run.made.get("region", ""),
        source_id=run.source.get("id", ""),
        source_name=run.source.get("name", ""),
        parents=dict(turn.parents),
        digest=turn.digest,
        built_at=datetime.now(UTC),
        run=run.id,
    )
    if turn.in_fleet:
        try:
            await write_current(image)
        except Exception as error:
            run.logger.error("That %s is the current image of %s could not be kept: %s", image.id, turn.name, error)
    said = image.model_dump(mode="json", exclude={"definition", "id", "name", "built_at"})
    tell(BUILT, turn.name, {"image_id": image.id, "image_name": image.name, **said}, run.logger)


async def tell_failed(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tell that a build ended badly, and who waits for it in vain, in whatever process Prefect calls this hook."""
    del flow
    logger = flow_run_logger(flow_run)
    try:
        async with get_client() as client:
            parameters = (await client.read_flow_run(flow_run.id)).parameters
            definition = parameters.get("definition")
            blocked = Fleet(
                {name: member.family for name, member in (await read_members(client)).items()} if definition else {}
            ).descendants(str(definition))
        await _tell_failed(definition, parameters.get("build"), blocked, state, str(flow_run.id), logger)
    except Exception as error:
        mask_error(error)
        logger.warning("That this build failed could not be told: %s", error)


async def _tell_failed(
    definition: str | None, build: Any, blocked: list[str], state: State[Any], run: str, logger: Logger
) -> None:
    build_name = build.get("build_name") if isinstance(build, dict) else None
    name = definition or build_name or BuildDefinition.model_fields["build_name"].default
    what, step, hint = state.message or state.name or "", "", ""
    error = None
    with suppress(Exception):  # in another process than the build's there is only the state's message
        error = await state.aresult(raise_on_failure=False)
    if isinstance(error, BakeryError):
        what, step, hint = str(error).partition("\n  → ")[0], error.step, error.hint
    tell(FAILED, name, {"what": what, "step": step, "hint": hint, "run": run}, logger)
    for child in blocked:
        tell(BLOCKED, child, {"by": name, "run": run}, logger)
    if blocked:
        logger.warning("Not built again until %s has a new image: %s", name, ", ".join(blocked))
