"""References in build definitions: where a secret or a credentials block is, never what it holds.

A flow's parameters are stored in clear. So the parameters' schema itself refuses a value where a reference belongs, and
does it before the run is stored; what the reference leads to is read in the process that builds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, SecretStr, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from blocks.errors import SecretUnavailable
from blocks.forms import plain_optionals

if TYPE_CHECKING:
    from prefect.blocks.core import Block

BlockT = TypeVar("BlockT", bound="Block")

_FORMS = "{block: NAME} (a Prefect Secret block), {env: VARIABLE} or {file: PATH}"


def _refuse_values(schema: JsonSchemaValue, hint: str) -> JsonSchemaValue:
    """Make a reference's schema answer a plain value with a hint instead of an echo of the value.

    `const` is the one keyword whose error names what was expected and not what was given.
    """
    return {"if": {"not": {"type": "object"}}, "then": {"const": hint}, **schema, "minProperties": 1}


class SecretReference(BaseModel):
    """Where a secret is: exactly one of a Prefect Secret block, an environment variable, a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)
    hint: ClassVar[str] = f"a reference, never the secret itself: {_FORMS}"

    ref: dict[str, str] | None = Field(default=None, alias="$ref", title="Secret block, as Prefect's forms send it")
    block: str | None = Field(
        default=None, title="Secret block", description="Name of a Prefect Secret block.", min_length=1
    )
    env: str | None = Field(
        default=None,
        title="Environment variable",
        description="Name of an environment variable of the process that builds.",
        min_length=1,
    )
    file: str | None = Field(
        default=None,
        title="File",
        description="Path of a file on the host that builds; a final newline is no part of the secret.",
        min_length=1,
    )

    @model_validator(mode="before")
    @classmethod
    def _no_values(cls, given: Any) -> Any:
        if isinstance(given, cls):
            return given
        if not isinstance(given, dict):
            raise PydanticCustomError("secret_value", "must be {hint}", {"hint": cls.hint})
        given = {key: value for key, value in given.items() if value is not None}
        if len(given) != 1:
            raise PydanticCustomError("secret_forms", "must be exactly one of {forms}", {"forms": _FORMS})
        return given

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = plain_optionals(handler.resolve_ref_schema(handler(core)))
        schema.update(_refuse_values(dict(schema), cls.hint))
        # What a form shows of it: a picker of Secret blocks, or one of the others. Any object passes here, so that the
        # server's errors are those of the properties above.
        properties = schema["properties"]
        schema["anyOf"] = [
            {"type": "object", "title": "Secret block", "block_type_slug": "secret"},
            *(
                {"type": "object", "title": properties[form]["title"], "properties": {form: properties[form]}}
                for form in ("env", "file")
            ),
        ]
        return schema

    def __str__(self) -> str:
        kind, name = next((k, v) for k, v in self.model_dump(by_alias=True).items() if v is not None)
        return f"{{{kind}: {name}}}"

    async def resolve(self, base: Path | None = None) -> SecretStr:
        """Read the secret.

        Args:
            base: Directory against which a relative `file` resolves: that of the definition.

        Raises:
            SecretUnavailable: there is no such block, variable or file, or it cannot be read.
        """
        if self.env is not None:
            return self._from_environment(self.env)
        if self.file is not None:
            return self._from_file(self.file, base or Path())
        return await self._from_block()

    def _from_environment(self, variable: str) -> SecretStr:
        value = os.environ.get(variable)
        if not value:
            raise SecretUnavailable(
                "the environment variable is not set",
                resource=str(self),
                hint=f"Set {variable} in the environment of the process that builds (on a worker: the worker's).",
            )
        return SecretStr(value)

    def _from_file(self, name: str, base: Path) -> SecretStr:
        path = base / Path(name).expanduser()
        try:
            return SecretStr(path.read_text(encoding="utf-8").removesuffix("\n"))
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise SecretUnavailable(
                "the file cannot be read",
                resource=str(self),
                why=f"{path}: {why}",
                hint="It must be on the host that builds and readable by the user that builds.",
            ) from None

    async def _from_block(self) -> SecretStr:
        from prefect.blocks.system import Secret

        try:
            found = await (Secret.aload_from_ref(self.ref) if self.ref else Secret.aload(str(self.block)))
            secret: Secret[Any] = found
        except (ValueError, RuntimeError, TypeError) as error:
            raise SecretUnavailable(
                "there is no such Secret block on this Prefect server",
                resource=str(self),
                why=str(error).splitlines()[0],
                hint="Create a Secret block of that name in the UI (Blocks), or mend the reference.",
            ) from None
        value = secret.get()
        return value if isinstance(value, SecretStr) else SecretStr(str(value))


class BlockReference(BaseModel):
    """Which credentials block: `{block: NAME}`, or what Prefect's forms send: `{$ref: {block_document_id: …}}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)
    block_type_slug: ClassVar[str]
    hint: ClassVar[str] = "a reference to a block, never its contents: {block: NAME}"

    block: str | None = Field(default=None, title="Block name", min_length=1)
    ref: dict[str, str] | str | None = Field(default=None, alias="$ref", title="Block document")

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, given: Any) -> Any:
        if isinstance(given, cls):
            return given
        if not isinstance(given, dict) or not set(given) <= {"block", "$ref", "ref"}:
            raise PydanticCustomError("block_value", "must be {hint}", {"hint": cls.hint})
        given = {key: value for key, value in given.items() if value is not None}
        if len(given) != 1:
            raise PydanticCustomError("block_forms", "must be {hint}", {"hint": cls.hint})
        return given

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core))
        # The slug makes Prefect's forms show a picker. A title that is no definition's name keeps its
        # server from loosening this schema into one that accepts the block's fields inline.
        schema.update(
            _refuse_values(
                {
                    "type": "object",
                    "title": f"Reference to {cls.block_type_slug}",
                    "description": cls.__doc__ or "",
                    "block_type_slug": cls.block_type_slug,
                    "properties": {
                        "$ref": {"type": ["object", "string"]},
                        "block": {"type": "string", "minLength": 1, "title": "Block name"},
                    },
                    "additionalProperties": False,
                    "maxProperties": 1,
                },
                cls.hint,
            )
        )
        return schema

    def __str__(self) -> str:
        return f"{{block: {self.block}}}" if self.block else f"{{$ref: {self.ref}}}"

    async def load(self, block_type: type[BlockT]) -> BlockT:
        """Load the block document from the Prefect server.

        Raises:
            SecretUnavailable: the server has no such block, or it is of another type.
        """
        name = self.block
        if name is None and isinstance(self.ref, dict) and (slug := self.ref.get("block_document_slug")):
            name = slug.removeprefix(f"{self.block_type_slug}/")
        try:
            return await (block_type.aload(name) if name is not None else block_type.aload_from_ref(self.ref or {}))
        except (ValueError, RuntimeError, TypeError) as error:
            raise SecretUnavailable(
                "the credentials block cannot be loaded from this Prefect server",
                resource=str(self),
                why=(str(error).splitlines() or [type(error).__name__])[0],
                hint=f"Create a block of type {self.block_type_slug} in the UI (Blocks), or mend the reference.",
            ) from None
