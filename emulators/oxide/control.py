"""What the control endpoint of an Oxide region has beside that of every region: time, machines, users, pools.

- `GET /settings`, `PATCH /settings`: `{"times": {…}, "behaviour": {…}, "sleds": n}`: how long the control plane takes,
  what every machine is told at its next start, on how many sleds the members of a group can be apart. What is not named
  stays; a behaviour of null goes.
- `PATCH /instances/{id}` with `{"behaviour": {…}}`: what that machine is told at its next start, over the former.
- `POST /instances/{id}/fail`, `POST /disks/{id}/fault`: it fails now.
- `POST /silos` (`{"name", "quotas"}`), `PATCH /silos/{name}` (`{"quotas": {…}}`).
- `POST /users` (`{"silo", "name", "role"}`): a user, and the only sight of the token. A silo that is not there is made.
- `POST /pools` (`{"name", "network", "silos": {name: is default}}`): a pool, or what one is from now on.
- `POST /device/{user_code}` (`{"silo", "user"}`, or null to refuse): grant a command line its token.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulators.machines.behaviour import Behaviour
from emulators.oxide import devices, disks, silos, wire
from emulators.oxide.bodies.base import Name
from emulators.oxide.errors import ApiError
from emulators.oxide.power import Power
from emulators.oxide.records import DiskState, IpPool, Role, Silo, User, new_id
from emulators.oxide.region import OxideRegion, Times
from emulators.region.control import control_app

R = TypeVar("R")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Settings(_Body):
    times: dict[str, float] = {}
    behaviour: dict[str, Any] = {}
    sleds: int | None = None


class _Machine(_Body):
    behaviour: dict[str, Any]


class _Quotas(_Body):
    cpus: int | None = None
    memory: int | None = None
    storage: int | None = None


class _NewSilo(_Body):
    name: Name
    quotas: _Quotas = _Quotas()


class _SiloChange(_Body):
    quotas: _Quotas


class _NewUser(_Body):
    silo: Name
    name: Name
    role: Role = Role.COLLABORATOR


class _NewPool(_Body):
    name: Name
    network: Annotated[str, AfterValidator(lambda text: str(ip_network(text)))]
    silos: dict[str, bool]


class _Confirmation(_Body):
    silo: str
    user: str


def oxide_control_app(region: OxideRegion, power: Power) -> Starlette:
    """The control endpoint of an Oxide region."""
    control = _Control(region, power)
    return control_app(
        region,
        [
            control.route("/settings", "GET", control.settings),
            control.route("/settings", "PATCH", control.change_settings),
            control.route("/instances/{id}", "PATCH", control.change_instance),
            control.route("/instances/{id}/fail", "POST", control.fail_instance),
            control.route("/disks/{id}/fault", "POST", control.fault_disk),
            control.route("/silos", "POST", control.add_silo),
            control.route("/silos/{name}", "PATCH", control.change_silo),
            control.route("/users", "POST", control.add_user),
            control.route("/pools", "POST", control.add_pool),
            control.route("/device/{code}", "POST", control.confirm),
        ],
    )


class _Control:
    def __init__(self, region: OxideRegion, power: Power) -> None:
        self._region = region
        self._power = power

    def route(self, path: str, method: str, handler: Callable[[Request], Awaitable[wire.Json]]) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return JSONResponse(await handler(request))
            except ApiError as error:
                return JSONResponse({"message": error.message}, error.status)
            except ValueError as error:
                return JSONResponse({"message": str(error)}, 400)
            except LookupError as error:
                return JSONResponse({"message": str(error.args[0])}, 404)

        return Route(path, endpoint, methods=[method])

    async def settings(self, _: Request) -> wire.Json:
        region = self._region
        return {"times": region.times.model_dump(), "behaviour": region.behaviour, "sleds": region.sleds}

    async def change_settings(self, request: Request) -> wire.Json:
        body = _Settings.model_validate_json(await request.body())
        times = Times.model_validate({**self._region.times.model_dump(), **body.times})
        self._region.behaviour = _changed(self._region.behaviour, body.behaviour)
        self._region.times = times
        self._region.sleds = self._region.sleds if body.sleds is None else body.sleds
        return await self.settings(request)

    async def change_instance(self, request: Request) -> wire.Json:
        instance = _there(self._region.instances.get(request.path_params["id"]), "instance")
        body = _Machine.model_validate_json(await request.body())
        instance.behaviour = _changed(instance.behaviour, body.behaviour)
        self._region.instances.save(instance)
        return {"behaviour": instance.behaviour}

    async def fail_instance(self, request: Request) -> wire.Json:
        instance = _there(self._region.instances.get(request.path_params["id"]), "instance")
        await self._power.fail(instance)
        return {"state": instance.state}

    async def fault_disk(self, request: Request) -> wire.Json:
        disk = _there(self._region.disks.get(request.path_params["id"]), "disk")
        disks.settle(self._region, disk, DiskState.FAULTED, disk.instance_id)
        return {"state": disk.state}

    async def add_silo(self, request: Request) -> wire.Json:
        body = _NewSilo.model_validate_json(await request.body())
        silo = silos.create(self._region, body.name)
        return self._with_quotas(silo, body.quotas)

    async def change_silo(self, request: Request) -> wire.Json:
        silo = _there(self._region.silos.named("", request.path_params["name"]), "silo")
        return self._with_quotas(silo, _SiloChange.model_validate_json(await request.body()).quotas)

    def _with_quotas(self, silo: Silo, quotas: _Quotas) -> wire.Json:
        silo.quotas = type(silo.quotas).model_validate(
            {**silo.quotas.model_dump(), **quotas.model_dump(exclude_none=True)}
        )
        self._region.silos.save(silo)
        return {"id": silo.id, "name": silo.name, "quotas": silo.quotas.model_dump()}

    async def add_user(self, request: Request) -> wire.Json:
        body = _NewUser.model_validate_json(await request.body())
        silo = self._region.silos.named("", body.silo) or silos.create(self._region, body.silo)
        user = silos.create_user(self._region, silo, body.name, body.role)
        _, secret = silos.issue(self._region, user)
        return {"id": user.id, "silo_id": silo.id, "role": user.role, "token": secret}

    async def add_pool(self, request: Request) -> wire.Json:
        body = _NewPool.model_validate_json(await request.body())
        users = {
            _there(self._region.silos.named("", name), f"silo {name}").id: default
            for name, default in body.silos.items()
        }
        pool = self._region.pools.named("", body.name) or IpPool(id=new_id(), name=body.name, network=body.network)
        pool.network, pool.silos = body.network, users
        self._region.add_pool(pool)
        return {"id": pool.id, "name": pool.name, "network": pool.network, "silos": pool.silos}

    async def confirm(self, request: Request) -> wire.Json:
        told = json.loads(await request.body() or b"null")
        user: User | None = None
        if told is not None:
            body = _Confirmation.model_validate(told)
            silo = _there(self._region.silos.named("", body.silo), "silo")
            user = _there(self._region.users.named(silo.id, body.user), "user")
        devices.confirm(self._region, request.path_params["code"], user)
        return {"granted": user is not None}


def _there(found: R | None, what: str) -> R:
    if found is None:
        raise LookupError(f"no such {what}")
    return found


def _changed(former: dict[str, object], change: dict[str, Any]) -> dict[str, object]:
    wanted = {key: value for key, value in {**former, **change}.items() if value is not None}
    Behaviour.model_validate(wanted)
    return wanted
