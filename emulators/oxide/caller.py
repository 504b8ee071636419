"""Who makes a request, and what that user may see: the user's own silo, as if there were no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from emulators.oxide import errors
from emulators.oxide.bodies.base import check_name, is_uuid
from emulators.oxide.records import (
    Identified,
    Image,
    IpPool,
    NetworkInterface,
    Project,
    Role,
    Silo,
    SshKey,
    User,
    VpcSubnet,
)
from emulators.oxide.region import OxideRegion
from emulators.region.records import Collection

R = TypeVar("R", bound=Identified)


@dataclass(frozen=True)
class Caller:
    """A user, and the region as that user sees it."""

    region: OxideRegion
    user: User

    @property
    def silo(self) -> Silo:
        """The user's silo."""
        silo = self.region.silos.get(self.user.silo_id)
        assert silo is not None
        return silo

    @property
    def may_change(self) -> bool:
        """Whether the user's role allows more than looking."""
        return self.user.role is not Role.VIEWER

    def project(self, name_or_id: str | None) -> Project:
        """The project of a request that must name one."""
        if name_or_id is None:
            raise errors.bad_request("unable to parse query string: missing field `project`")
        return self.find(self.region.projects, "project", name_or_id, self.user.silo_id)

    def find(self, collection: Collection[R], kind: str, name_or_id: str, scope: str = "") -> R:
        """What has that id, or that name in that scope.

        Raises:
            ApiError: 404 for none, and for one of another silo.
        """
        by_id = is_uuid(name_or_id)
        found = collection.get(name_or_id.lower()) if by_id else collection.named(scope, name_or_id)
        if found is None or not self._sees(found):
            if not by_id:
                try:
                    check_name(name_or_id)
                except ValueError as error:
                    raise errors.bad_request(f"bad parameter in URL path: {error}") from None
            raise errors.not_found(kind, name_or_id, by_id=by_id)
        return found

    def select(self, collection: Collection[R], kind: str, name_or_id: str, project: str | None) -> R:
        """What a path names: by id without `?project=`, by name with it.

        Raises:
            ApiError: 400 for an id together with a project and for a name without one, 404 for none.
        """
        if is_uuid(name_or_id):
            if project is not None:
                raise errors.invalid_request(f"when providing {kind} as an ID project should not be specified")
            return self.find(collection, kind, name_or_id)
        if project is None:
            raise errors.invalid_request(f"{kind} should either be UUID or project should be specified")
        return self.find(collection, kind, name_or_id, self.project(project).id)

    def _sees(self, record: Identified) -> bool:
        region, silo_id = self.region, self.user.silo_id
        match record:
            case SshKey():
                return record.silo_user_id == self.user.id
            case Project() | Image():
                return record.silo_id == silo_id
            case IpPool():
                return silo_id in record.silos
            case VpcSubnet():
                owner: Identified | None = region.vpcs.get(record.vpc_id)
            case NetworkInterface():
                owner = region.instances.get(record.instance_id)
            case _:
                owner = region.projects.get(getattr(record, "project_id", ""))
        return owner is not None and self._sees(owner)
