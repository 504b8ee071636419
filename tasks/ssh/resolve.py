"""From options to a log-in plan: secrets are looked up and keys read, in the process that builds."""

from __future__ import annotations

from pathlib import Path

import paramiko
from pydantic import SecretStr

from blocks.errors import DefinitionError, Mistake
from blocks.references import SecretReference
from tasks.masking import keep_secret
from tasks.ssh.bastion_options import DEFAULT_PROXY_PORTS
from tasks.ssh.key_files import BadKeyFile, load_certificate, load_key, path_here
from tasks.ssh.options import SshOptions
from tasks.ssh.plan import Bastion, Credentials, LogInPlan, OfferedKey, Proxy, Tunnel


async def log_in_plan(
    options: SshOptions,
    base: Path,
    *,
    temporary_key: paramiko.PKey | None = None,
    host_key: paramiko.PKey | None = None,
) -> LogInPlan:
    """Make the plan. Its host is empty when the options name none: see `LogInPlan.at`.

    Args:
        options: The build's; its communicator is ssh.
        base: The definition's directory: relative paths resolve against it.
        temporary_key: The build's own key, where it makes one.
        host_key: The guest's host key, where it is known ahead.

    Raises:
        SecretUnavailable: a reference leads to no secret.
        DefinitionError: a key file or certificate cannot be used.
    """
    keys = list(
        await _keys(
            base,
            ("ssh_private_key_file", options.ssh_private_key_file),
            options.ssh_private_key_passphrase,
            ("ssh_certificate_file", options.ssh_certificate_file),
        )
    )
    if temporary_key is not None:
        keys.append(OfferedKey("the temporary key", temporary_key))
    return LogInPlan(
        host=options.ssh_host or "",
        port=options.ssh_port,
        credentials=Credentials(
            user=options.ssh_username or "",
            keys=tuple(keys),
            password=await _secret(options.ssh_password, base),
            agent=options.ssh_agent_auth,
        ),
        bastion=await _bastion(options, base),
        proxy=await _proxy(options, base),
        handshake_attempts=options.ssh_handshake_attempts,
        pause_before_connecting=options.pause_before_connecting,
        keep_alive_interval=max(options.ssh_keep_alive_interval, 0),
        read_write_timeout=options.ssh_read_write_timeout,
        transfer_method=options.ssh_file_transfer_method,
        pty=options.ssh_pty,
        forward_agent=not options.ssh_disable_agent_forwarding,
        ciphers=tuple(options.ssh_ciphers or ()),
        key_exchange=tuple(options.ssh_key_exchange_algorithms or ()),
        local_tunnels=tuple(map(Tunnel.parse, options.ssh_local_tunnels)),
        remote_tunnels=tuple(map(Tunnel.parse, options.ssh_remote_tunnels)),
        host_key=host_key,
    )


async def _bastion(options: SshOptions, base: Path) -> Bastion | None:
    if options.ssh_bastion_host is None:
        return None
    own = options.ssh_bastion_private_key_file is not None
    key, passphrase, certificate = (
        (
            ("ssh_bastion_private_key_file", options.ssh_bastion_private_key_file),
            options.ssh_bastion_private_key_passphrase,
            ("ssh_bastion_certificate_file", options.ssh_bastion_certificate_file),
        )
        if own
        else (
            ("ssh_private_key_file", options.ssh_private_key_file),
            options.ssh_private_key_passphrase,
            ("ssh_certificate_file", options.ssh_bastion_certificate_file or options.ssh_certificate_file),
        )
    )
    return Bastion(
        host=options.ssh_bastion_host,
        port=options.ssh_bastion_port or 22,
        credentials=Credentials(
            user=options.ssh_bastion_username or options.ssh_username or "",
            keys=tuple(await _keys(base, key, passphrase, certificate)),
            password=await _secret(options.ssh_bastion_password, base),
            agent=options.ssh_bastion_agent_auth,
            asks=options.ssh_bastion_interactive,
        ),
    )


async def _proxy(options: SshOptions, base: Path) -> Proxy | None:
    if options.ssh_proxy_host is None:
        return None
    kind = options.ssh_proxy_type or "socks5"
    return Proxy(
        kind=kind,
        host=options.ssh_proxy_host,
        port=options.ssh_proxy_port or DEFAULT_PROXY_PORTS[kind],
        username=options.ssh_proxy_username,
        password=await _secret(options.ssh_proxy_password, base),
    )


async def _keys(
    base: Path,
    key: tuple[str, str | None],
    passphrase: SecretReference | None,
    certificate: tuple[str, str | None],
) -> list[OfferedKey]:
    """The key of a file, after its certificate where it has one. Files come as (option, path)."""
    option, name = key
    if name is None:
        return []
    secret = await _secret(passphrase, base)
    try:
        loaded = load_key(path_here(base, name), secret)
        offered = OfferedKey(f"the key {name}", loaded)
        option, path = certificate
        if path is None:
            return [offered]
        certified = load_certificate(path_here(base, path), loaded, load_key(path_here(base, name), secret))
        return [OfferedKey(f"the certificate {path}", certified), offered]
    except BadKeyFile as error:
        raise DefinitionError([Mistake(option, str(error))]) from None


async def _secret(reference: SecretReference | None, base: Path) -> SecretStr | None:
    return keep_secret(await reference.resolve(base)) if reference is not None else None
