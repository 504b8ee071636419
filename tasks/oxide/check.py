"""What only the region can tell about a definition: asked side by side, before anything is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from blocks.errors import Ambiguous, DefinitionError, Forbidden, Mistake, NotFound
from blocks.oxide.models import Image, Resource, Snapshot
from tasks.naming import variables
from tasks.oxide.found import Found, mistakes_in_amounts, mistakes_in_pools, mistakes_in_sizes
from tasks.oxide.instance_options import ExtraDisk, FloatingIpChoice
from tasks.oxide.lookup import find_image, project_is_missing, what_there_is
from tasks.oxide.option_types import ImageByName
from tasks.oxide.options import OxideOptions
from tasks.oxide.plan import Plan, is_of_run
from tasks.oxide.request import instance_request
from tasks.oxide.run import OxideRun
from tasks.side_by_side import side_by_side
from tasks.step import step

R = TypeVar("R")


@step("check with the region")
async def check_with_region(run: OxideRun, options: OxideOptions, *, build_name: str, base: Path) -> Plan:
    """See that the region has, and has room for, all that the definition names.

    Raises:
        DefinitionError: all mistakes.
    """
    plan = await plan_build(run, options, build_name=build_name, base=base)
    source = plan.source
    run.logger.info("Source image: %s (%s), %s %s", source.name, source.id, source.os, source.version)
    if plan.finished is not None:
        run.logger.info("An earlier attempt of this run finished the image %s", plan.finished.id)
    return plan


async def plan_build(run: OxideRun, options: OxideOptions, *, build_name: str, base: Path) -> Plan:
    """`check_with_region` outside of a flow, as a dry run wants it."""
    return await _Look(run, options, build_name, base).plan()


class _Look:
    """One look at the region: what is there is kept, what is wrong is gathered."""

    def __init__(self, run: OxideRun, options: OxideOptions, build_name: str, base: Path) -> None:
        self._run = run
        self._client = run.client
        self._options = options
        self._build_name = build_name
        self._base = base
        self._mistakes: list[Mistake] = []
        self._found = Found()

    async def plan(self) -> Plan:
        options, found = self._options, self._found
        async with side_by_side() as looks:
            looks.create_task(self._look_at_project())
            looks.create_task(self._look_at_source_and_names())
            looks.create_task(self._look_at_network())
            looks.create_task(self._look_at_address())
            looks.create_task(self._look_at_utilization())
            for place, key in enumerate(options.ssh_public_keys):
                looks.create_task(self._look_at_key(f"ssh_public_keys[{place}]", key))
            for place, group in enumerate(options.anti_affinity_groups):
                looks.create_task(self._look_at_group(f"anti_affinity_groups[{place}]", group))
            for place, disk in enumerate(options.extra_disks):
                looks.create_task(self._look_at_disk_source(f"extra_disks[{place}]", disk))
        self._mistakes += mistakes_in_sizes(options, found) + mistakes_in_pools(options, found)
        if not self._run.goes_on:  # a kept instance has its room and its addresses already
            self._mistakes += mistakes_in_amounts(options, found)
        # An image that is finished needs nothing of the region any more.
        if found.source is None or (self._mistakes and found.finished is None):
            order = list(type(options).model_fields)
            self._mistakes.sort(key=lambda mistake: (order.index(mistake.option.partition("[")[0]), mistake.option))
            raise DefinitionError(self._mistakes, source=f"project {self._run.project} on {self._client.host}")
        values = self._values(found.source.name)
        return Plan(
            source=found.source,
            image=options.image_plan(values, found.source),
            instance=instance_request(self._run, options, found, found.source, values, self._base),
            pools=options.pools,
            key_name=options.temporary_key_name(self._run, values),
            makes_image=not options.skip_create_image,
            finished=found.finished,
            former=found.former,
        )

    def _values(self, source_name: str) -> dict[str, str]:
        run = self._run
        return variables(run.id, run.created, build_name=self._build_name, source_name=source_name)

    async def _look_at_project(self) -> None:
        project = self._run.project
        await self._there("project", project, "a project", self._client.project(project), self._client.projects)

    async def _look_at_source_and_names(self) -> None:
        options = self._options
        named = (options.artifact_name or "{{source_name}}", options.name, options.hostname)
        if any("source_name" in (name or "") for name in (*named, options.temporary_key_pair_name)):
            await self._look_at_source()
            if self._found.source is not None:
                await self._look_at_names(self._found.source.name)
        else:
            async with side_by_side() as looks:
                looks.create_task(self._look_at_source())
                looks.create_task(self._look_at_names(""))

    async def _look_at_source(self) -> None:
        choice = self._options.boot_disk_image_id
        assert choice is not None  # asked for before anything else
        self._found.source = await self._image_of("boot_disk_image_id", choice)

    async def _image_of(self, option: str, choice: str | ImageByName) -> Image | None:
        try:
            return await find_image(self._client, choice, project=self._run.project)
        except NotFound as error:
            elsewhere = isinstance(choice, ImageByName) and choice.project not in (None, self._run.project)
            if elsewhere or not project_is_missing(error):
                why = f": {error.why}" if error.why else ""
                self._wrong(option, f"must be an image that is there: {error.what}{why}", str(choice))
        except Ambiguous as error:
            self._wrong(option, f"{error.what}: {error.why}. {error.hint}", str(choice))
        return None

    async def _look_at_names(self, source_name: str) -> None:
        run, options, values = self._run, self._options, self._values(source_name)
        names: dict[str, str] = {}
        rendered: dict[str, Callable[[], str]] = {
            "artifact_name": lambda: options.image_name(values),
            "name": lambda: options.instance_name(run, values),
            "hostname": lambda: options.host_name(run, values),
            "temporary_key_pair_name": lambda: options.temporary_key_name(run, values),
        }
        for option, render in rendered.items():
            try:
                names[option] = render()
            except DefinitionError as error:
                self._mistakes.extend(error.mistakes)
        async with side_by_side() as looks:
            if "artifact_name" in names and not options.skip_create_image:
                looks.create_task(self._look_at_image_name(names["artifact_name"]))
            if "name" in names and options.name is not None:
                name, project = names["name"], run.project
                views: list[tuple[str, Awaitable[Resource]]] = [
                    ("an instance", self._client.instance(name, project=project)),
                    ("a disk", self._client.disk(name, project=project)),
                    ("a snapshot", self._client.snapshot(name, project=project)),
                ]
                for what, view in views:
                    looks.create_task(self._look_at_taken_name("name", name, what, view))
            option = "temporary_key_pair_name"
            if option in names and options.temporary_key_pair_name is not None:
                view = self._client.ssh_key(names[option])
                looks.create_task(self._look_at_taken_name(option, names[option], "an SSH key", view))

    async def _look_at_image_name(self, name: str) -> None:
        project = None if self._options.promote else self._run.project
        try:
            found = await self._client.image(name, project=project)
        except NotFound:
            return
        if is_of_run(found, self._run.id) or is_of_run(found, self._run.lineage.origin):
            self._found.finished = found
        elif self._options.force:
            self._found.former = found
        else:
            place = "the silo" if project is None else f"project {project}"
            rule = (
                f"must be free in {place}, and image {found.id} has it since {found.time_created:%Y-%m-%d}: choose "
                "another (variables such as {{timestamp}} make it unique), or set force to replace that image"
            )
            self._wrong("artifact_name", rule, name)

    async def _look_at_taken_name(self, option: str, name: str, what: str, view: Awaitable[Resource]) -> None:
        try:
            found = await view
        except NotFound:
            return
        # What an earlier try of this build kept is gone on with.
        if not self._run.owns_description(found.description):
            self._wrong(option, f"must be free, and {what} has it ({found.id})", name)

    async def _look_at_network(self) -> None:
        client, project = self._client, self._run.project
        vpc, subnet = self._options.vpc, self._options.subnet
        asked = client.subnet(subnet, project=project, vpc=vpc)
        async with side_by_side() as looks:
            looks.create_task(
                self._there(
                    "vpc", vpc, "a VPC of the project", client.vpc(vpc, project=project), lambda: client.vpcs(project)
                )
            )
            looks.create_task(
                self._there("subnet", subnet, f"a subnet of VPC {vpc}", asked, lambda: client.subnets(project, vpc))
            )

    async def _look_at_address(self) -> None:
        client, options, project = self._client, self._options, self._run.project
        if options.external_ip == "ephemeral":
            self._found.pools = await self._if_allowed(_all(client.ip_pools()))
        if not isinstance(options.external_ip, FloatingIpChoice):
            return
        name = options.external_ip.floating
        view = client.floating_ip(name, project=project)
        found = await self._there(
            "external_ip", name, "a floating IP of the project", view, lambda: client.floating_ips(project)
        )
        if found is None:
            return
        if found.instance_id is not None and not self._run.goes_on:
            self._wrong("external_ip", f"must be a floating IP that is free: instance {found.instance_id} has it", name)
        version = f"v{ip_address(found.ip).version}"
        if options.ip_version not in (version, "dual"):
            self._wrong("ip_version", f"must suit the floating IP {name}, which is {found.ip}", options.ip_version)

    async def _look_at_utilization(self) -> None:
        self._found.utilization = await self._if_allowed(self._client.utilization())

    async def _look_at_key(self, option: str, key: str) -> None:
        view, listing = self._client.ssh_key(key), self._client.ssh_keys
        found = await self._there(option, key, "an SSH key of the token's user", view, listing)
        if found is not None:
            self._found.keys[key] = found.id

    async def _look_at_group(self, option: str, group: str) -> None:
        client, project = self._client, self._run.project
        view = client.anti_affinity_group(group, project=project)
        what = "an anti-affinity group of the project"
        found = await self._there(option, group, what, view, lambda: client.anti_affinity_groups(project))
        if found is not None:
            self._found.groups[group] = found.id

    async def _look_at_disk_source(self, option: str, disk: ExtraDisk) -> None:
        client, project = self._client, self._run.project
        found: Image | Snapshot | None = None
        if disk.image is not None:
            found = await self._image_of(f"{option}.image", disk.image)
        elif disk.snapshot is not None:
            view = client.snapshot(disk.snapshot, project=project)
            what = "a snapshot of the project"
            found = await self._there(
                f"{option}.snapshot", disk.snapshot, what, view, lambda: client.snapshots(project)
            )
        if found is not None:
            self._found.disk_sources[disk.name] = found

    async def _there(
        self, option: str, value: str, what: str, view: Awaitable[R], listing: Callable[[], AsyncIterator[Resource]]
    ) -> R | None:
        """What a view shows. A mistake lists what there is; a project that is missing is a mistake of its own."""
        try:
            return await view
        except NotFound as error:
            if option != "project" and (project_is_missing(error) or (option == "subnet" and "vpc with" in error.why)):
                return None  # that has a mistake of its own
            self._wrong(option, f"must be {what}; there are: {await what_there_is(value, listing())}", value)
            return None

    async def _if_allowed(self, view: Awaitable[R]) -> R | None:
        try:
            return await view
        except (Forbidden, NotFound) as error:
            self._run.logger.debug("This user may not ask for it: %s", error)
            return None

    def _wrong(self, option: str, rule: str, value: str = "") -> None:
        self._mistakes.append(Mistake(option, rule, value))


async def _all(listing: AsyncIterator[R]) -> list[R]:
    return [item async for item in listing]
