"""What a region has from its first start on: a silo, a user, a pool, a project, and whom else it was told to make."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from emulators.oxide import projects, silos
from emulators.oxide.bodies.base import ProjectCreate, check_name
from emulators.oxide.records import IpPool, Role, Silo, User
from emulators.oxide.region import OxideRegion
from emulators.region.home import RegionError
from emulators.region.records import write_private


def make(region: OxideRegion, project: str, users: Sequence[tuple[str, str, Role]]) -> None:
    """Make what is not there yet.

    Raises:
        RegionError: a name that the API does not take.
    """
    identity = region.identity
    pool = region.pools.get(identity.pool_id)
    if pool is None or pool.network != identity.network:
        pool = pool or IpPool(
            id=identity.pool_id, name="default", description="Loopback addresses of this host", network=""
        )
        pool.network = identity.network
        region.add_pool(pool)
    silo = region.silos.get(identity.silo_id) or silos.create(region, "box", silo_id=identity.silo_id)
    if region.users.get(identity.user_id) is None:
        user = silos.create_user(region, silo, "baker", Role.ADMIN, user_id=identity.user_id)
        _give_token(region, user, region.token_file)
    if region.projects.named(silo.id, project) is None:
        try:
            body = ProjectCreate(name=project, description="Made with the region")
        except ValueError as error:
            raise RegionError(f"--project {project}: {error}") from None
        projects.create(region, silo.id, body)
    for silo_name, name, role in users:
        _make_user(region, silo_name, name, role)


def token_file(region: OxideRegion, silo: str, name: str) -> Path:
    """The file with the token of a user whom the region was told to make."""
    return region.directory / f"token-{silo}-{name}"


def _make_user(region: OxideRegion, silo_name: str, name: str, role: Role) -> None:
    try:
        check_name(silo_name), check_name(name)
    except ValueError as error:
        raise RegionError(f"--user {silo_name}/{name}: {error}") from None
    silo: Silo = region.silos.named("", silo_name) or silos.create(region, silo_name)
    if region.users.named(silo.id, name) is None:
        user = silos.create_user(region, silo, name, role)
        _give_token(region, user, token_file(region, silo_name, name))


def _give_token(region: OxideRegion, user: User, path: Path) -> None:
    secret = path.read_text().strip() if path.exists() else f"{silos.PREFIX}{secrets.token_hex(20)}"
    write_private(path, f"{secret}\n")
    silos.issue(region, user, secret=secret)
