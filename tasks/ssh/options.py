"""The options of the SSH communicator, with the names of Packer's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from blocks.errors import Mistake
from blocks.references import SecretReference
from tasks.quantities import Seconds
from tasks.ssh.algorithms import CIPHERS, KEY_EXCHANGES
from tasks.ssh.bastion_options import BastionOptions
from tasks.ssh.key_files import mistakes_here
from tasks.ssh.option_rules import FOREIGN, Broken, broken_rules
from tasks.ssh.option_types import KeepAlive, TunnelText, at, known_names

Communicator = Literal["ssh", "none"]

_REFUSED = {
    "winrm": "WinRM is not supported: give a Windows image an SSH server (OpenSSH is an optional feature of Windows)",
    "docker": "the docker communicators are for containers, and this builder makes an instance",
    "dockerWindowsContainer": "the docker communicators are for containers, and this builder makes an instance",
}


def _refuse_communicators(given: Any) -> Any:
    if isinstance(given, str) and given in _REFUSED:
        raise PydanticCustomError("communicator", "must be ssh or none: {why}", {"why": _REFUSED[given]})
    return given


class SshOptions(BastionOptions):
    """How a build reaches its guest, and what lets it in."""

    communicator: Annotated[Communicator, BeforeValidator(_refuse_communicators)] = Field(
        default="ssh",
        title="Communicator",
        description="ssh; or none: nothing logs in to the instance, and nothing is provisioned.",
        json_schema_extra=at(100),
    )
    ssh_username: str | None = Field(
        default=None,
        title="SSH user",
        description="Who the build logs in as: the image's own user, such as debian or ubuntu. Required with ssh.",
        min_length=1,
        json_schema_extra=at(4),
    )
    ssh_host: str | None = Field(
        default=None,
        title="SSH host",
        description="Name or address to connect to. Default: the instance's external address.",
        min_length=1,
        json_schema_extra=at(102),
    )
    ssh_port: int = Field(
        default=22, ge=1, le=65535, title="SSH port", description="The guest's SSH port.", json_schema_extra=at(103)
    )
    ssh_password: SecretReference | None = Field(
        default=None,
        title="SSH password",
        description="Where the user's password is. It also answers keyboard-interactive. No temporary key is made.",
        json_schema_extra=at(104),
    )
    ssh_private_key_file: str | None = Field(
        default=None,
        title="SSH private key file",
        description="A private key on the host that builds; ~ is the home directory. No temporary key is made.",
        min_length=1,
        json_schema_extra=at(105),
    )
    ssh_private_key_passphrase: SecretReference | None = Field(
        default=None,
        title="SSH private key passphrase",
        description="Where the passphrase of the private key file is, if it has one.",
        json_schema_extra=at(106),
    )
    ssh_certificate_file: str | None = Field(
        default=None,
        title="SSH certificate file",
        description="A user certificate for the private key file.",
        min_length=1,
        json_schema_extra=at(107),
    )
    ssh_agent_auth: bool = Field(
        default=False,
        title="SSH agent",
        description="Log in with the keys of the agent at SSH_AUTH_SOCK. No temporary key is made.",
        json_schema_extra=at(108),
    )
    ssh_disable_agent_forwarding: bool = Field(
        default=True,
        title="No agent forwarding",
        description="false forwards the agent into the guest, where root can use it. (Packer forwards by default.)",
        json_schema_extra=at(109),
    )
    ssh_timeout: Seconds = Field(
        default=300,
        gt=0,
        title="SSH time-out",
        description="How long the guest may take to let the build in: 5m, or seconds.",
        json_schema_extra=at(110),
    )
    ssh_wait_timeout: Seconds | None = Field(
        default=None,
        gt=0,
        title="SSH wait time-out",
        description="The old name of ssh_timeout; it wins over it, with a warning.",
        json_schema_extra=at(111),
    )
    ssh_handshake_attempts: int = Field(
        default=10,
        ge=0,
        title="SSH log-in attempts",
        description="How many log-ins may be refused before the build fails; 0: as many as there is time for.",
        json_schema_extra=at(112),
    )
    pause_before_connecting: Seconds = Field(
        default=0,
        ge=0,
        title="Pause before connecting",
        description="The first connection is dropped, and made anew after this time.",
        json_schema_extra=at(113),
    )
    ssh_keep_alive_interval: KeepAlive = Field(
        default=5,
        title="SSH keep-alive interval",
        description="How often the guest is asked for a sign of life; 0 is the default, -1 is never.",
        json_schema_extra=at(114),
    )
    ssh_read_write_timeout: Seconds = Field(
        default=0,
        ge=0,
        title="SSH read/write time-out",
        description="After how long without a byte from the guest a connection is taken for broken; 0 is never.",
        json_schema_extra=at(115),
    )
    ssh_file_transfer_method: Literal["sftp", "scp"] | None = Field(
        default=None,
        title="SSH file transfer",
        description="sftp or scp. Default: sftp, or scp where the guest has no sftp.",
        json_schema_extra=at(116),
    )
    ssh_pty: bool = Field(
        default=False,
        title="SSH terminal",
        description="Give every command a terminal of 80 columns and 40 lines, as some sudo set-ups need.",
        json_schema_extra=at(117),
    )
    ssh_ciphers: Annotated[list[str], known_names(CIPHERS)] | None = Field(
        default=None,
        title="SSH ciphers",
        description=f"The ciphers to offer, in this order. There are {', '.join(CIPHERS)}.",
        min_length=1,
        json_schema_extra=at(118),
    )
    ssh_key_exchange_algorithms: Annotated[list[str], known_names(KEY_EXCHANGES)] | None = Field(
        default=None,
        title="SSH key exchange",
        description=f"The key exchange methods to offer, in this order. There are {', '.join(KEY_EXCHANGES)}.",
        min_length=1,
        json_schema_extra=at(119),
    )
    ssh_local_tunnels: list[TunnelText] = Field(
        default_factory=list,
        title="SSH local tunnels",
        description="LISTENPORT:HOST:PORT: a port of the builder's localhost leads to HOST:PORT as the guest sees it.",
        json_schema_extra=at(120),
    )
    ssh_remote_tunnels: list[TunnelText] = Field(
        default_factory=list,
        title="SSH remote tunnels",
        description="LISTENPORT:HOST:PORT: a port of the guest's localhost leads to HOST:PORT as the builder sees it.",
        json_schema_extra=at(121),
    )
    ssh_host_key: Literal["pinned", "injected"] = Field(
        default="pinned",
        title="SSH host key",
        description="pinned: the host key seen first must stay. injected: the guest is given one by cloud-init, and is "
        "known at first contact; it needs an image with cloud-init, and takes the place of user data.",
        json_schema_extra=at(122),
    )
    ssh_clear_authorized_keys: bool = Field(
        default=True,
        title="Clear authorized keys",
        description="Remove the temporary key from the image. (Packer's default is to leave it.)",
        json_schema_extra=at(123),
    )
    temporary_key_pair_name: str | None = Field(
        default=None,
        title="Temporary key's name",
        description="Name of the public key on the rack while the build runs. Default: one that no other run has.",
        min_length=1,
        json_schema_extra=at(124),
    )
    temporary_key_pair_type: Literal["ed25519", "ecdsa", "rsa", "dsa"] = Field(
        default="ed25519",
        title="Temporary key's type",
        description="The temporary key is always ed25519; any other type is only warned of.",
        json_schema_extra=at(125),
    )
    temporary_key_pair_bits: int = Field(
        default=0,
        ge=0,
        title="Temporary key's bits",
        description="Without effect: an ed25519 key has one size.",
        json_schema_extra=at(126),
    )

    @model_validator(mode="wrap")
    @classmethod
    def _rules_between_options(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Report what is wrong between options together with what is wrong in each."""
        if not isinstance(given, dict):
            return handler(given)
        details = [_detail(broken) for broken in broken_rules(given)]
        try:
            made = handler({name: value for name, value in given.items() if name not in FOREIGN})
        except ValidationError as error:
            details = [_again(found) for found in error.errors(include_url=False)] + details
        if details:
            raise ValidationError.from_exception_data(cls.__name__, details, hide_input=True)
        return made

    @property
    def makes_temporary_key(self) -> bool:
        """Whether the build makes a key for itself: when nothing else is given that would let it in."""
        return self.communicator == "ssh" and not (
            self.ssh_password or self.ssh_private_key_file or self.ssh_agent_auth
        )

    @property
    def connect_timeout(self) -> float:
        """How long the guest may take to let the build in, in seconds."""
        return self.ssh_timeout if self.ssh_wait_timeout is None else self.ssh_wait_timeout

    def ssh_mistakes_here(self, base: Path) -> list[Mistake]:
        """What only the host that builds can tell: of key files, an agent, a terminal.

        Args:
            base: The definition's directory: relative paths resolve against it.
        """
        return mistakes_here(self, base) if self.communicator == "ssh" else []

    def ssh_warnings(self) -> list[str]:
        """What was given and is not meant as it stands."""
        warnings = []
        if self.ssh_wait_timeout is not None:
            warnings.append("ssh_wait_timeout is the old name of ssh_timeout, and wins over it")
        if self.temporary_key_pair_type != "ed25519":
            warnings.append(
                f"temporary_key_pair_type is {self.temporary_key_pair_type}; the temporary key is an ed25519 key all "
                "the same. For a guest that takes none, give ssh_private_key_file."
            )
        if self.temporary_key_pair_bits:
            warnings.append("temporary_key_pair_bits has no effect: an ed25519 key has one size")
        return warnings


def _detail(broken: Broken) -> InitErrorDetails:
    kind = "missing" if broken.missing else "ssh_rule"
    return InitErrorDetails(
        type=PydanticCustomError(kind, "{rule}", {"rule": broken.rule}), loc=(broken.option,), input=None
    )


def _again(found: ErrorDetails) -> InitErrorDetails:
    text = PydanticCustomError(found["type"], "{said}", {**found.get("ctx", {}), "said": found["msg"]})
    return InitErrorDetails(type=text, loc=found["loc"], input=found["input"])
