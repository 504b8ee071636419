"""Projects, each with the VPC that the control plane makes along with it."""

from __future__ import annotations

from emulators.oxide import errors
from emulators.oxide.bodies.base import ProjectCreate
from emulators.oxide.records import Project, Vpc, VpcSubnet, new_id
from emulators.oxide.region import OxideRegion


def create(region: OxideRegion, silo_id: str, body: ProjectCreate) -> Project:
    """Make a project with its VPC `default` and the subnet `default` in it."""
    if region.projects.named(silo_id, body.name):
        raise errors.already_exists("project", body.name)
    project = Project(id=new_id(), name=body.name, description=body.description, silo_id=silo_id)
    vpc = Vpc(
        id=new_id(),
        project_id=project.id,
        name="default",
        description="Default VPC",
        dns_name="default",
        ipv6_prefix="fd2d:4569:88b2::/48",
    )
    subnet = VpcSubnet(
        id=new_id(),
        vpc_id=vpc.id,
        name="default",
        description=f"The default subnet for {vpc.name}",
        ipv4_block="172.30.0.0/22",
        ipv6_block="fd2d:4569:88b2::/64",
    )
    region.vpcs.save(vpc)
    region.vpc_subnets.save(subnet)
    region.projects.save(project)
    return project


def delete(region: OxideRegion, project: Project) -> None:
    """Delete a project that holds nothing but its VPC.

    Raises:
        ApiError: 400 while there is something in it.
    """
    for kind, found in (
        ("an instance", region.instances.within(project.id)),
        ("a disk", region.disks.within(project.id)),
        ("a snapshot", region.snapshots.within(project.id)),
        ("an image", region.images.within(project.id)),
        ("a floating ip", region.floating_ips.within(project.id)),
        ("an anti affinity group", region.groups.within(project.id)),
    ):
        if found:
            raise errors.invalid_request(f"project to be deleted contains {kind}: {found[0].name}")
    for vpc in region.vpcs.within(project.id):
        for subnet in region.vpc_subnets.within(vpc.id):
            region.vpc_subnets.delete(subnet.id)
        region.vpcs.delete(vpc.id)
    region.projects.delete(project.id)
