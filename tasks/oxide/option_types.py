"""What options of the `oxide-instance` builder are made of."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from blocks.forms import plain_optionals
from blocks.oxide.client import is_id
from blocks.oxide.models import GIB, NAME_LENGTH, NAME_PATTERN
from tasks.naming import check_variables
from tasks.quantities import Bytes


def _check_name_or_id(value: str) -> str:
    if not is_id(value) and (len(value) > NAME_LENGTH or not re.fullmatch(NAME_PATTERN, value)):
        raise PydanticCustomError(
            "oxide_name_or_id",
            "must be an id, or a name: at most 63 lower-case letters, digits and hyphens, from a letter to no hyphen",
        )
    return value


def _check_gib(value: int) -> int:
    if value % GIB:
        raise PydanticCustomError("gib", "must be whole GiB, such as 20GiB")
    return value


def zero_is(default: int) -> AfterValidator:
    """As with Packer, a zero asks for the default."""
    return AfterValidator(lambda value: value or default)


def one_of(forms: str) -> WrapValidator:
    """One mistake for a value that is none of several forms, and not one for each of them."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("forms", "must be {forms}", {"forms": forms}) from None

    return WrapValidator(check)


def _check_name(value: str) -> str:
    check_variables(value)
    # What variables become is cleaned to what a name may hold; only what stands around them can be wrong.
    probe = re.sub(r"\{\{.*?\}\}", "x", value)
    if not re.fullmatch(NAME_PATTERN, probe):
        raise PydanticCustomError(
            "oxide_name",
            "must be of lower-case letters, digits and hyphens, begin with a letter and end with no hyphen",
        )
    if len(probe) > NAME_LENGTH:
        raise PydanticCustomError("oxide_name", f"must be at most {NAME_LENGTH} characters long")
    return value


Name = Annotated[str, AfterValidator(_check_name)]
"""A name with variables in it."""
NameOrId = Annotated[str, Field(min_length=1), AfterValidator(_check_name_or_id)]
"""What the API calls NameOrId."""
WholeGib = Annotated[Bytes, AfterValidator(_check_gib)]


class Form(BaseModel):
    """Options within an option."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return plain_optionals(handler.resolve_ref_schema(handler(core)))


class ImageByName(Form):
    """An image by its name (Packer's data source `oxide-image`)."""

    model_config = ConfigDict(title="Image by name")

    name: NameOrId = Field(title="Name", description="The image's name.", json_schema_extra={"position": 0})
    project: NameOrId | None = Field(
        default=None,
        title="Project",
        description="Project whose image it is. Without one it is the silo's.",
        json_schema_extra={"position": 1},
    )

    def __str__(self) -> str:
        return f"{self.name} of project {self.project}" if self.project else f"{self.name} of the silo"


ImageChoice = Annotated[
    Annotated[NameOrId, Field(title="Id or name")] | ImageByName,
    one_of("an id, a name (lower-case letters, digits and hyphens) or {name: …, project: …}"),
]
"""An image: by id; by a name that the silo or the build's project has; by a name in one of them."""
