"""What single values may be: names, ids, tokens, tags."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator

from emulators.outscale import errors

_DEVICE = re.compile(r"/dev/(sd|xvd)[b-z][a-z]?")
_ROOT_DEVICE = "/dev/sda1"
_IMAGE_NAME = re.compile(r"[A-Za-z0-9_ ()/.-]{3,128}")
_TOKEN_LENGTH = 64


class Refused(ValueError):
    """A value that may not be, and the code of the error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def check_image_name(text: str) -> str:
    """Return a name that an OMI may have.

    Raises:
        ValueError: it may not.
    """
    if _IMAGE_NAME.fullmatch(text) is None:
        raise Refused(errors.INVALID_IMAGE_NAME, "ImageName is 3 to 128 letters, digits and _ ()/.-")
    return text


def _check_device(text: str) -> str:
    if _DEVICE.fullmatch(text) is None:
        raise Refused(errors.INVALID_DEVICE_NAME, f"Invalid device name: '{text}'")
    return text


def _check_token(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9-]*", text) is None or len(text) > _TOKEN_LENGTH:
        raise Refused(errors.INVALID_VALUE, f"ClientToken is at most {_TOKEN_LENGTH} of A-Z, a-z, 0-9 and -")
    return text


def _check_tag_key(text: str) -> str:
    if not 1 <= len(text) <= 255:
        raise Refused(errors.INVALID_TAG_KEY, "A tag's key is 1 to 255 characters long")
    return text


def _check_tag_value(text: str) -> str:
    if len(text) > 255:
        raise Refused(errors.INVALID_TAG_VALUE, "A tag's value is at most 255 characters long")
    return text


def _check_mapped_device(text: str) -> str:
    return text if text == _ROOT_DEVICE else _check_device(text)


DeviceName = Annotated[str, AfterValidator(_check_device)]
MappedDeviceName = Annotated[str, AfterValidator(_check_mapped_device)]
ImageName = Annotated[str, AfterValidator(check_image_name)]
ClientToken = Annotated[str, AfterValidator(_check_token)]


def _id_check(prefix: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not text.startswith(f"{prefix}-"):
            raise Refused(errors.WRONG_ID_PREFIX, f"'{text}' does not begin with '{prefix}-'.")
        if re.fullmatch(r"[0-9a-f]{8}", text.removeprefix(f"{prefix}-")) is None:
            raise Refused(errors.MALFORMED_ID, f"The id '{text}' is malformed.")
        return text

    return check


_check_vm_id = _id_check("i")


def check_vm_ids(ids: list[str]) -> None:
    """Refuse ids that no VM can have.

    Raises:
        ApiError: one of them is none.
    """
    try:
        for text in ids:
            _check_vm_id(text)
    except Refused as refused:
        raise errors.invalid_value(refused.code, str(refused)) from None


ImageId = Annotated[str, AfterValidator(_id_check("ami"))]
SnapshotId = Annotated[str, AfterValidator(_id_check("snap"))]
VmId = Annotated[str, AfterValidator(_check_vm_id)]
VolumeId = Annotated[str, AfterValidator(_id_check("vol"))]
TagKey = Annotated[str, AfterValidator(_check_tag_key)]
TagValue = Annotated[str, AfterValidator(_check_tag_value)]
