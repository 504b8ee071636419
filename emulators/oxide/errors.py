"""The errors of the Oxide API, with the words that the control plane uses.

ApiError
├── bad_request      400 without an error code: the request could not be read
├── invalid_request  400 InvalidRequest: right in form, wrong now
├── invalid_value    400 InvalidValue
├── already_exists   400 ObjectAlreadyExists
├── unauthorized     401 Unauthorized
├── forbidden        403 Forbidden
├── no_such, not_found        404 ObjectNotFound
├── conflict         409 Conflict
├── internal         500 Internal
├── unavailable      503 ServiceNotAvailable: worth trying again
└── no_capacity      507 InsufficientCapacity
"""

from __future__ import annotations


class ApiError(Exception):
    """A reply that says no."""

    def __init__(self, status: int, error_code: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.message = message


def bad_request(message: str) -> ApiError:
    """The request could not be read."""
    return ApiError(400, None, message)


def invalid_request(message: str) -> ApiError:
    """The request is right in form but cannot be done now."""
    return ApiError(400, "InvalidRequest", message)


def invalid_value(label: str, message: str) -> ApiError:
    """A value is outside what the API takes."""
    return ApiError(400, "InvalidValue", f'unsupported value for "{label}": {message}')


def already_exists(kind: str, name: str) -> ApiError:
    """The name is taken."""
    return ApiError(400, "ObjectAlreadyExists", f'already exists: {kind} "{name}"')


def unauthorized() -> ApiError:
    """No credentials, or wrong ones."""
    return ApiError(401, "Unauthorized", "credentials missing or invalid")


def forbidden() -> ApiError:
    """The user may look at it and no more."""
    return ApiError(403, "Forbidden", "Forbidden")


def no_such(message: str) -> ApiError:
    """Something that no name or id was given for is not there."""
    return ApiError(404, "ObjectNotFound", message)


def not_found(kind: str, name_or_id: str, *, by_id: bool) -> ApiError:
    """No such thing."""
    lookup = f'id "{name_or_id}"' if by_id else f'name "{name_or_id}"'
    return no_such(f"not found: {kind} with {lookup}")


def conflict(message: str) -> ApiError:
    """Something else is under way."""
    return ApiError(409, "Conflict", message)


def internal() -> ApiError:
    """Something broke; the control plane hides what."""
    return ApiError(500, "Internal", "Internal Server Error")


def unavailable() -> ApiError:
    """Not now; the control plane hides why."""
    return ApiError(503, "ServiceNotAvailable", "Service Unavailable")


def no_capacity(message: str) -> ApiError:
    """The rack or the quota is full."""
    return ApiError(507, "InsufficientCapacity", f"Insufficient capacity: {message}")
