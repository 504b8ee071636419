"""Where to look for what builds left: the projects and accounts that credentials lead to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from blocks.errors import BakeryError
from blocks.forms import plain_optionals
from blocks.outscale.credentials import OutscaleCredentials, OutscaleCredentialsReference
from blocks.outscale.credentials import find_credentials as find_outscale_credentials
from blocks.oxide.credentials import OxideCredentials, OxideCredentialsReference
from blocks.oxide.credentials import find_credentials as find_oxide_credentials
from blocks.references import SecretReference
from flows.definition import BuildDefinition
from tasks import grounds
from tasks.grounds import without_secrets
from tasks.masking import keep_secret, mask_error
from tasks.outscale.ground import OutscaleGround
from tasks.oxide.ground import OxideGround
from tasks.sweep import Place


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return plain_optionals(handler.resolve_ref_schema(handler(core)))


class OxidePlace(_Options):
    """Projects of an Oxide region."""

    cloud: Literal["oxide"] = Field(title="Cloud", json_schema_extra={"position": 0})
    credentials: OxideCredentialsReference | None = Field(
        default=None,
        title="Credentials",
        description="An Oxide Credentials block. Without it: host and token, a profile, or the environment.",
        json_schema_extra={"position": 1},
    )
    projects: list[str] | None = Field(
        default=None,
        title="Projects",
        description="Names or ids. Default: all that the token's user may see.",
        json_schema_extra={"position": 2},
    )
    host: str | None = Field(
        default=None, title="Region URL", description="Default: OXIDE_HOST.", json_schema_extra={"position": 3}
    )
    token: SecretReference | None = Field(
        default=None, title="Token", description="Default: OXIDE_TOKEN.", json_schema_extra={"position": 4}
    )
    profile: str | None = Field(
        default=None, title="Profile", description="Of the host that reclaims.", json_schema_extra={"position": 5}
    )

    @classmethod
    def of_block(cls, name: str) -> OxidePlace:
        """All projects that a credentials block leads to."""
        return cls(cloud="oxide", credentials=OxideCredentialsReference(block=name))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[list[Place]]:
        """The region's projects."""
        credentials = await find_oxide_credentials(
            block=self.credentials, host=self.host, token=self.token, profile=self.profile
        )
        async with oxide_projects(credentials, self.projects) as places:
            yield places


class OutscalePlace(_Options):
    """An OUTSCALE account."""

    cloud: Literal["outscale"] = Field(title="Cloud", json_schema_extra={"position": 0})
    credentials: OutscaleCredentialsReference | None = Field(
        default=None,
        title="Credentials",
        description="An OUTSCALE Credentials block. Without it: a profile, or the environment.",
        json_schema_extra={"position": 1},
    )
    profile: str | None = Field(
        default=None, title="Profile", description="Of the host that reclaims.", json_schema_extra={"position": 2}
    )

    @classmethod
    def of_block(cls, name: str) -> OutscalePlace:
        """The account that a credentials block leads to."""
        return cls(cloud="outscale", credentials=OutscaleCredentialsReference(block=name))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[list[Place]]:
        """The account."""
        credentials = await find_outscale_credentials(block=self.credentials, profile=self.profile)
        async with outscale_account(credentials) as places:
            yield places


AnyPlace = Annotated[OxidePlace | OutscalePlace, Field(discriminator="cloud")]


@asynccontextmanager
async def oxide_projects(credentials: OxideCredentials, projects: list[str] | None) -> AsyncIterator[list[Place]]:
    """Projects of a region; None: all that the user may see."""
    keep_secret(credentials.token)
    async with credentials.get_client() as client:
        names = projects if projects is not None else [project.name async for project in client.projects()]
        yield [
            Place(
                f"{client.host} project {name}",
                OxideGround(client, name),
                without_secrets(grounds.oxide(credentials, name)),
            )
            for name in names
        ]


@asynccontextmanager
async def outscale_account(credentials: OutscaleCredentials) -> AsyncIterator[list[Place]]:
    """An account in its region."""
    for secret in (credentials.access_key, credentials.secret_key):
        keep_secret(secret)
    async with credentials.get_client() as client:
        name = f"{credentials.url} account of {credentials.region}"
        yield [Place(name, OutscaleGround(client), without_secrets(grounds.outscale(credentials)))]


@asynccontextmanager
async def definition_place(definition: BuildDefinition[Any]) -> AsyncIterator[list[Place]]:
    """Where builds of a definition leave their resources."""
    async with definition.cloud() as cloud:
        name = Path(definition.definition_file or definition.build_name).name
        yield [Place(name, cloud.ground(None), without_secrets(cloud.ground_elsewhere))]


@asynccontextmanager
async def all_of(
    openers: Mapping[str, AbstractAsyncContextManager[list[Place]]],
) -> AsyncIterator[tuple[list[Place], dict[str, str]]]:
    """All places that can be opened, and of those that cannot the reason."""
    places: list[Place] = []
    failed: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for name, opener in openers.items():
            try:
                places += await stack.enter_async_context(opener)
            except BakeryError as error:
                mask_error(error)
                failed[name] = str(error)
        yield places, failed
