"""The user, the user's keys and tokens, the silo and its projects."""

from __future__ import annotations

from starlette.responses import Response

from emulators.oxide import devices, errors, projects, quotas, wire
from emulators.oxide.bodies.base import DeviceAuthVerify, IdentityUpdate, ProjectCreate, SshKeyCreate, parse, path_id
from emulators.oxide.calls import Call, Operations
from emulators.oxide.records import Project, SshKey, new_id
from emulators.oxide.updates import update

OPERATIONS = Operations()
_operation = OPERATIONS.add


@_operation("ping", "GET", "/v1/ping", needs_token=False)
async def _ping(_: Call) -> wire.Json:
    return {"status": "ok"}


@_operation("current_user_view", "GET", "/v1/me")
async def _me(call: Call) -> wire.Json:
    return wire.current_user(call.caller.user, call.caller.silo)


@_operation("current_user_groups", "GET", "/v1/me/groups")
async def _my_groups(call: Call) -> wire.Json:
    wire.page_limit(call.query)
    return wire.all_of([])


def _ssh_key(call: Call) -> SshKey:
    return call.caller.find(call.region.ssh_keys, "ssh-key", call.path["ssh_key"], call.caller.user.id)


@_operation("current_user_ssh_key_list", "GET", "/v1/me/ssh-keys")
async def _ssh_key_list(call: Call) -> wire.Json:
    return wire.page(call.region.ssh_keys, call.caller.user.id, call.query, wire.ssh_key)


@_operation("current_user_ssh_key_create", "POST", "/v1/me/ssh-keys", 201, for_viewers=True)
async def _ssh_key_create(call: Call) -> wire.Json:
    body, user_id = parse(SshKeyCreate, call.body), call.caller.user.id
    if call.region.ssh_keys.named(user_id, body.name):
        raise errors.already_exists("ssh-key", body.name)
    key = SshKey(id=new_id(), silo_user_id=user_id, **body.model_dump())
    call.region.ssh_keys.save(key)
    return wire.ssh_key(key)


@_operation("current_user_ssh_key_view", "GET", "/v1/me/ssh-keys/{ssh_key}")
async def _ssh_key_get(call: Call) -> wire.Json:
    return wire.ssh_key(_ssh_key(call))


@_operation("current_user_ssh_key_delete", "DELETE", "/v1/me/ssh-keys/{ssh_key}", 204, for_viewers=True)
async def _ssh_key_delete(call: Call) -> None:
    call.region.ssh_keys.delete(_ssh_key(call).id)


@_operation("current_user_access_token_list", "GET", "/v1/me/access-tokens")
async def _token_list(call: Call) -> wire.Json:
    own = [token for token in call.region.tokens if token.user_id == call.caller.user.id]
    return wire.page_by_id(own, call.query, wire.access_token)


@_operation("current_user_access_token_delete", "DELETE", "/v1/me/access-tokens/{token_id}", 204, for_viewers=True)
async def _token_delete(call: Call) -> None:
    token = call.region.tokens.get(path_id(call.path["token_id"]))
    if token is None or token.user_id != call.caller.user.id:
        raise errors.not_found("device-access-token", call.path["token_id"], by_id=True)
    call.region.tokens.delete(token.id)


# OAuth 2.0 device authorization


@_operation("device_auth_request", "POST", "/device/auth", needs_token=False)
async def _device_auth(call: Call) -> Response:
    return devices.request(call)


@_operation("device_access_token", "POST", "/device/token", needs_token=False)
async def _device_token(call: Call) -> Response:
    return devices.token(call)


@_operation("device_auth_confirm", "POST", "/device/confirm", 204, for_viewers=True)
async def _device_confirm(call: Call) -> None:
    body = parse(DeviceAuthVerify, call.body)
    devices.confirm(call.region, body.user_code, call.caller.user)


# The silo and its projects


@_operation("utilization_view", "GET", "/v1/utilization")
async def _utilization(call: Call) -> wire.Json:
    silo = call.caller.silo
    used = quotas.provisioned(call.region, silo)
    return {"capacity": silo.quotas.model_dump(), "provisioned": used.model_dump()}


def _project(call: Call) -> Project:
    return call.caller.project(call.path["project"])


@_operation("project_list", "GET", "/v1/projects")
async def _project_list(call: Call) -> wire.Json:
    return wire.page(call.region.projects, call.caller.user.silo_id, call.query, wire.project)


@_operation("project_create", "POST", "/v1/projects", 201)
async def _project_create(call: Call) -> wire.Json:
    body = parse(ProjectCreate, call.body)
    return wire.project(projects.create(call.region, call.caller.user.silo_id, body))


@_operation("project_view", "GET", "/v1/projects/{project}")
async def _project_view(call: Call) -> wire.Json:
    return wire.project(_project(call))


@_operation("project_update", "PUT", "/v1/projects/{project}")
async def _project_update(call: Call) -> wire.Json:
    project = _project(call)
    update(call.region.projects, "project", project, parse(IdentityUpdate, call.body))
    return wire.project(project)


@_operation("project_delete", "DELETE", "/v1/projects/{project}", 204)
async def _project_delete(call: Call) -> None:
    projects.delete(call.region, _project(call))
