"""The log-in plan: all that is needed to reach one guest and be let in, resolved and never changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import paramiko
from pydantic import SecretStr

ProxyType = Literal["socks5", "http"]
TransferMethod = Literal["sftp", "scp"]


@dataclass(frozen=True)
class OfferedKey:
    """A private key, and where it comes from in words for an error."""

    source: str
    key: paramiko.PKey


@dataclass(frozen=True)
class Credentials:
    """Who logs in, and by what: an agent's keys, then the keys, then the password, as Packer does."""

    user: str
    keys: tuple[OfferedKey, ...] = ()
    password: SecretStr | None = None
    """It also answers keyboard-interactive."""
    agent: bool = False
    asks: bool = False
    """Whether a person at the terminal answers keyboard-interactive."""


@dataclass(frozen=True)
class Bastion:
    """A host through which the guest is reached."""

    host: str
    port: int
    credentials: Credentials

    def __str__(self) -> str:
        return f"bastion {self.credentials.user}@{self.host} port {self.port}"


@dataclass(frozen=True)
class Proxy:
    """A SOCKS5 or HTTP proxy through which the guest is reached."""

    kind: ProxyType
    host: str
    port: int
    username: str | None = None
    password: SecretStr | None = None

    def __str__(self) -> str:
        return f"{'SOCKS5' if self.kind == 'socks5' else 'HTTP'} proxy {self.host} port {self.port}"


@dataclass(frozen=True)
class Tunnel:
    """A port on one side that leads to a host and port as the other side sees them."""

    listen: int
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.listen}:{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Tunnel:
        """Read `LISTENPORT:HOST:PORT`; an IPv6 address stands in brackets.

        Raises:
            ValueError: it is of another form.
        """
        listen, _, rest = text.partition(":")
        host, _, port = rest.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""
        ports = [int(part) if part.isascii() and part.isdigit() and len(part) < 6 else 0 for part in (listen, port)]
        if not host or not all(0 < number < 65536 for number in ports):
            raise ValueError("must be LISTENPORT:HOST:PORT")
        return cls(ports[0], host, ports[1])


@dataclass(frozen=True)
class LogInPlan:
    """How one guest is reached and what its connection is like. All times are seconds."""

    host: str
    """Where the guest answers; empty until that is known."""
    credentials: Credentials
    port: int = 22
    bastion: Bastion | None = None
    proxy: Proxy | None = None
    handshake_attempts: int = 10
    """How many log-ins may be refused; 0: as many as there is time for."""
    pause_before_connecting: float = 0
    keep_alive_interval: float = 5
    """0: no keep-alives."""
    read_write_timeout: float = 0
    """0: no limit."""
    transfer_method: TransferMethod | None = None
    """None: SFTP, or scp where the guest has no SFTP."""
    pty: bool = False
    forward_agent: bool = False
    ciphers: tuple[str, ...] = ()
    key_exchange: tuple[str, ...] = ()
    local_tunnels: tuple[Tunnel, ...] = ()
    remote_tunnels: tuple[Tunnel, ...] = ()
    host_key: paramiko.PKey | None = None
    """The guest's host key, where it is known ahead."""

    def at(self, address: str) -> LogInPlan:
        """The plan for a guest at an address; a host that the plan already has wins."""
        return self if self.host else replace(self, host=address)
