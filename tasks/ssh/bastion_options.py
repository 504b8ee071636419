"""The options of bastions and proxies, which lead to guests that cannot be reached straight."""

from __future__ import annotations

from pydantic import BaseModel, Field

from blocks.references import SecretReference
from tasks.ssh.option_types import at
from tasks.ssh.plan import ProxyType

DEFAULT_PROXY_PORTS: dict[ProxyType, int] = {"socks5": 1080, "http": 3128}


class BastionOptions(BaseModel):
    """What stands between the build and its guest."""

    ssh_bastion_host: str | None = Field(
        default=None,
        title="SSH bastion",
        description="Name or address of a host through which the guest is reached.",
        min_length=1,
        json_schema_extra=at(140),
    )
    ssh_bastion_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        title="SSH bastion port",
        description="The bastion's SSH port. Default: 22.",
        json_schema_extra=at(141),
    )
    ssh_bastion_username: str | None = Field(
        default=None,
        title="SSH bastion user",
        description="Who logs in to the bastion. Default: the guest's ssh_username.",
        min_length=1,
        json_schema_extra=at(142),
    )
    ssh_bastion_password: SecretReference | None = Field(
        default=None,
        title="SSH bastion password",
        description="Where the password for the bastion is. It also answers keyboard-interactive.",
        json_schema_extra=at(143),
    )
    ssh_bastion_private_key_file: str | None = Field(
        default=None,
        title="SSH bastion key file",
        description="A private key for the bastion. Default: the guest's ssh_private_key_file.",
        min_length=1,
        json_schema_extra=at(144),
    )
    ssh_bastion_private_key_passphrase: SecretReference | None = Field(
        default=None,
        title="SSH bastion key passphrase",
        description="Where the passphrase of the bastion's key file is, if it has one.",
        json_schema_extra=at(145),
    )
    ssh_bastion_certificate_file: str | None = Field(
        default=None,
        title="SSH bastion certificate",
        description="A user certificate for the bastion's key file. Default: the guest's, with the guest's key file.",
        min_length=1,
        json_schema_extra=at(146),
    )
    ssh_bastion_agent_auth: bool = Field(
        default=False,
        title="SSH bastion agent",
        description="Log in to the bastion with the keys of the agent at SSH_AUTH_SOCK.",
        json_schema_extra=at(147),
    )
    ssh_bastion_interactive: bool = Field(
        default=False,
        title="SSH bastion asks",
        description="A person at the terminal answers what the bastion asks (keyboard-interactive).",
        json_schema_extra=at(148),
    )
    ssh_proxy_host: str | None = Field(
        default=None,
        title="SSH proxy",
        description="Name or address of a proxy through which the guest is reached.",
        min_length=1,
        json_schema_extra=at(150),
    )
    ssh_proxy_type: ProxyType | None = Field(
        default=None,
        title="SSH proxy type",
        description="socks5, or http for a proxy that takes CONNECT. Default: socks5.",
        json_schema_extra=at(151),
    )
    ssh_proxy_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        title="SSH proxy port",
        description="The proxy's port. Default: 1080, or 3128 for http.",
        json_schema_extra=at(152),
    )
    ssh_proxy_username: str | None = Field(
        default=None,
        title="SSH proxy user",
        description="Who logs in to the proxy.",
        min_length=1,
        json_schema_extra=at(153),
    )
    ssh_proxy_password: SecretReference | None = Field(
        default=None,
        title="SSH proxy password",
        description="Where the password for the proxy is.",
        json_schema_extra=at(154),
    )
