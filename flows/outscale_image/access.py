"""Access options: which account, which region, by which credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, Field

from blocks.errors import Mistake
from blocks.outscale.credentials import OutscaleCredentials, OutscaleCredentialsReference, find_credentials
from blocks.references import SecretReference
from flows.definition import at


class AccessOptions(BaseModel):
    """The seed builder's access options, and a credentials block."""

    credentials: OutscaleCredentialsReference | None = Field(
        default=None,
        title="Credentials",
        description="An OUTSCALE Credentials block. Without it: the options below, a profile, or the environment.",
        json_schema_extra=at(3),
    )
    region: str | None = Field(
        default=None,
        title="Region",
        description="Default: the profile's, OSC_REGION, eu-west-2.",
        json_schema_extra=at(100),
    )
    custom_endpoint_oapi: str | None = Field(
        default=None,
        title="Endpoint",
        description="URL of the API up to and without the action. Default: that of the region.",
        json_schema_extra=at(101),
    )
    access_key: SecretReference | None = Field(
        default=None, title="Access key", description="Where the access key is.", json_schema_extra=at(102)
    )
    secret_key: SecretReference | None = Field(
        default=None, title="Secret key", description="Where the secret key is.", json_schema_extra=at(103)
    )
    profile: str | None = Field(
        default=None,
        title="Profile",
        description="A profile of ~/.osc/config.json on the host that builds.",
        min_length=1,
        json_schema_extra=at(104),
    )
    x509_cert_path: str | None = Field(
        default=None, title="Client certificate", description="PEM file.", json_schema_extra=at(105)
    )
    x509_key_path: str | None = Field(
        default=None, title="Key of the client certificate", description="PEM file.", json_schema_extra=at(106)
    )
    insecure_skip_tls_verify: bool = Field(
        default=False, title="Do not verify TLS", description="Accept any certificate.", json_schema_extra=at(107)
    )
    token: SecretReference | None = Field(
        default=None,
        title="Session token",
        description="Does nothing: the API has no session tokens.",
        json_schema_extra=at(110),
    )
    mfa_code: SecretReference | None = Field(
        default=None, title="MFA code", description="Does nothing: no request takes it.", json_schema_extra=at(111)
    )
    skip_metadata_api_check: bool = Field(
        default=False,
        title="Skip the metadata check",
        description="Does nothing: the VM that builds has to be known.",
        json_schema_extra=at(112),
    )
    skip_region_validation: bool = Field(
        default=False,
        title="Skip the region's validation",
        description="Does nothing: regions are not validated by name.",
        json_schema_extra=at(113),
    )

    def mistakes_of_access(self) -> Iterator[Mistake]:
        """Options that do not go together."""
        if (self.access_key is None) != (self.secret_key is None):
            missing = "secret_key" if self.secret_key is None else "access_key"
            yield Mistake(missing, "access_key and secret_key go together")
        if self.credentials is not None and (self.access_key is not None or self.profile is not None):
            yield Mistake("credentials", "gives credentials in two ways: a block, and access_key or profile")

    def warnings_of_access(self) -> Iterator[str]:
        """Options that do nothing, and why."""
        if self.token is not None:
            yield "token does nothing: the API has no session tokens"
        if self.mfa_code is not None:
            yield "mfa_code does nothing: no request takes it"
        if self.skip_metadata_api_check:
            yield "skip_metadata_api_check does nothing: the build has to know which VM it runs on"
        if self.skip_region_validation:
            yield "skip_region_validation does nothing: regions are not validated by name"

    async def find(self, base: Path) -> OutscaleCredentials:
        """The credentials that these options lead to; see `find_credentials`.

        Args:
            base: Directory against which relative paths resolve.
        """
        return await find_credentials(
            block=self.credentials,
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=self.region,
            custom_endpoint_oapi=self.custom_endpoint_oapi,
            profile=self.profile,
            insecure_skip_tls_verify=self.insecure_skip_tls_verify,
            x509_cert_path=self.x509_cert_path,
            x509_key_path=self.x509_key_path,
            base=base,
        )
