"""The errors of the OUTSCALE API: those of its error table that this region needs.

ApiError
├── access_denied        401, code 1 (also 4 to 14 of the same family)
├── throttled            429, code 24 (account) or 25 (call); 503, code 6 (platform)
├── missing_parameter    400, code 7000
├── invalid_parameter    400, code 3001: no parameter of that name
├── invalid_combination  400, code 3002: parameters that exclude each other
├── invalid_value        400, codes 4000 to 4120
├── no_such              400, codes 5000 to 5075
├── wrong_state          400, codes 6000 to 6009
├── not_supported        400, code 8000: what this region leaves out; 8019: another region
├── conflict             409, codes 9000 to 9072
└── too_many             400, codes 10003 to 10046

Codes from 4000 to 6999 and from 9000 are those of the gateway's error table; the others, and the texts, are those that
the cloud's own replies have.
"""

from __future__ import annotations

_NO_SUCH = {"subregion": 5009, "image": 5023, "resource": 5044, "snapshot": 5054, "vm": 5063, "volume": 5064}
_FIELDS = {
    "image": "ImageId",
    "snapshot": "SnapshotId",
    "vm": "VmId",
    "volume": "VolumeId",
    "subregion": "SubregionName",
    "resource": "ResourceId",
}
_STATES = {"image": 6001, "snapshot": 6003, "vm": 6006, "volume": 6007}

INVALID_MAPPING = 4011
INVALID_DEVICE_NAME = 4019
INVALID_ID = 4025
INVALID_IMAGE_NAME = 4026
INVALID_IOPS = 4029
INVALID_VALUE = 4047
INVALID_ROOT_MAPPING = 4057
INVALID_TAG_KEY = 4069
INVALID_TAG_VALUE = 4071
INVALID_VIRTUAL_NAME = 4076
INVALID_VOLUME_SIZE = 4078
TOKEN_MISMATCH = 4091
WRONG_ID_PREFIX = 4104
MALFORMED_ID = 4105
INVALID_TYPE = 4108
WRONG_LOGIN = 4120

OTHER_REGION = 8019

BUSY = 9002
DEVICE_CONFLICT = 9003
DEVICE_IN_USE = 9004
DUPLICATE_NAME = 9015
VOLUME_NOT_IN_USE = 9063
SUBREGION_MISMATCH = 9071

TOO_MANY_CONCURRENT_SNAPSHOTS = 10008
TOO_MANY_VOLUMES = 10018
TOO_MUCH_VOLUME_SIZE = 10024
TOO_MANY_IOPS = 10025
TOO_MANY_SNAPSHOTS = 10026
TOO_MANY_TAGS = 10041

QUOTAS = {
    "CreateVolume": TOO_MANY_VOLUMES,
    "CreateSnapshot": TOO_MANY_SNAPSHOTS,
    "CreateImage": TOO_MANY_SNAPSHOTS,
    "CreateTags": TOO_MANY_TAGS,
}
"""The quota that a call runs into, as a rule. The table has none for OMIs: their snapshots count."""


class ApiError(Exception):
    """A reply that says no."""

    def __init__(self, status: int, code: int, kind: str, details: str) -> None:
        super().__init__(details)
        self.status = status
        self.code = code
        self.kind = kind
        self.details = details


def access_denied(code: int = 1, details: str = "") -> ApiError:
    """No credentials, or wrong ones; the gateway says no more about it than a code."""
    return ApiError(401, code, "AccessDenied", details)


def throttled(code: int) -> ApiError:
    """Too many requests: code 6 of the platform, 24 of the account, 25 of one call."""
    return ApiError(503 if code == 6 else 429, code, "AccessDenied", "Request rate exceeded.")


def internal() -> ApiError:
    """The region itself failed."""
    return ApiError(500, 2000, "InternalError", "An internal error occurred.")


def missing_parameter(names: str) -> ApiError:
    """A parameter that must be there is not."""
    return ApiError(400, 7000, "MissingParameter", f"Insufficient parameters provided. Missing: {names}")


def invalid_parameter(name: str) -> ApiError:
    """The call has no such parameter."""
    return ApiError(400, 3001, "InvalidParameter", f"Unknown parameter: {name}")


def invalid_combination(names: str) -> ApiError:
    """Parameters that cannot be given together."""
    return ApiError(400, 3002, "InvalidParameter", f"Invalid combination of parameters: {names}")


def invalid_value(code: int, details: str) -> ApiError:
    """A parameter's value is none that the API takes."""
    return ApiError(400, code, "InvalidParameterValue", details)


def no_such(kind: str, resource_id: str) -> ApiError:
    """No such resource, or none that this account may see."""
    return ApiError(400, _NO_SUCH[kind], "InvalidResource", f"The {_FIELDS[kind]} '{resource_id}' doesn't exist.")


def wrong_state(kind: str, resource_id: str, state: str) -> ApiError:
    """The resource is in a state in which that cannot be done."""
    return ApiError(400, _STATES[kind], "InvalidState", f"The {kind} '{resource_id}' is in state '{state}'.")


def not_supported(details: str, code: int = 8000) -> ApiError:
    """The cloud could do it, this region cannot."""
    return ApiError(400, code, "OperationNotSupported", details)


def conflict(code: int, details: str) -> ApiError:
    """Something else has what is asked for."""
    return ApiError(409, code, "ResourceConflict", details)


def too_many(code: int) -> ApiError:
    """The account's quota is used up."""
    return ApiError(400, code, "TooManyResources (QuotaExceded)", "The limit has exceeded.")


def of_code(code: int, status: int | None = None, details: str = "") -> ApiError:
    """An error as the table has its code, for faults that are told a number."""
    kinds = (
        (3000, "AccessDenied", 401),
        (4000, "InvalidParameter", 400),
        (5000, "InvalidParameterValue", 400),
        (6000, "InvalidResource", 400),
        (7000, "InvalidState", 400),
        (8000, "MissingParameter", 400),
        (9000, "OperationNotSupported", 400),
        (10000, "ResourceConflict", 409),
    )
    if code in {6, 24, 25}:
        return throttled(code) if status is None else ApiError(status, code, "AccessDenied", details)
    if code == 2000:
        return ApiError(status or 500, code, "InternalError", details)
    kind, usual = next(((k, s) for end, k, s in kinds if code < end), ("TooManyResources (QuotaExceded)", 400))
    return ApiError(status or usual, code, kind, details)
