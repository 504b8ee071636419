"""From a line with a banner on it to a connection that is let in, or to the reason why not."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from getpass import getpass

import paramiko

from tasks.ssh.algorithms import prefer_host_key, restrict
from tasks.ssh.plan import Credentials, LogInPlan
from tasks.ssh.threads import in_thread
from tasks.ssh.transport import Limited, Transport
from tasks.ssh.ways import Line, connect_agent, hang_up

_HANDSHAKE = 60


class LogInFailed(Exception):
    """One log-in failed. `answered`: the server said no, rather than that something broke."""

    def __init__(self, why: str, hint: str, *, answered: bool) -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint
        self.answered = answered


class OtherHostKey(Exception):
    """The server has another host key than the one that is known."""

    def __init__(self, key: paramiko.PKey) -> None:
        super().__init__(key.fingerprint)
        self.key = key


@dataclass(frozen=True)
class _Offer:
    """One credential as it is offered to the server. `make` returns the methods that are asked for besides."""

    method: str
    what: str
    make: Callable[[paramiko.Transport], list[str]]


async def log_in(
    line: Line,
    credentials: Credentials,
    plan: LogInPlan,
    host_key: paramiko.PKey | None,
    timeout: float,
) -> Transport:
    """Agree on keys, look at the host key, and be let in.

    Args:
        line: An open line, the banner still unread. It is closed when the log-in fails.
        credentials: What is offered.
        plan: What the connection is like.
        host_key: The server's host key, where it is known. To a server with another one nothing is offered.
        timeout: Seconds. No single answer of the server may take more than one minute of it.

    Raises:
        LogInFailed: the server does not let us in, or it broke.
        OtherHostKey: the server has another host key.
    """
    transport: Transport | None = None
    # A person takes longer than a server.
    patience = max(timeout, 1) if credentials.asks else min(max(timeout, 1), _HANDSHAKE)

    def work() -> Transport:
        nonlocal transport
        transport = Transport(Limited(line, plan.read_write_timeout) if plan.read_write_timeout else line)
        transport.auth_timeout = transport.banner_timeout = patience
        restrict(transport, plan.ciphers, plan.key_exchange)
        if host_key is not None:
            prefer_host_key(transport, host_key)
        try:
            transport.start_client(timeout=patience)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _no_handshake(transport, error) from error
        found = transport.get_remote_server_key()
        if host_key is not None and found != host_key:
            raise OtherHostKey(found)
        authenticate(transport, credentials)
        return transport

    def cut() -> None:
        hang_up(line)
        if transport is not None:
            transport.close()

    try:
        async with asyncio.timeout(max(timeout, 1)):
            return await in_thread(work, cut)
    except TimeoutError:
        raise LogInFailed("the log-in was not over in time", "Does the server hang?", answered=False) from None
    except Exception:
        cut()
        raise


def _no_handshake(transport: Transport, error: Exception) -> LogInFailed:
    if disagreement := transport.disagreement():
        return LogInFailed(
            f"the handshake failed: {disagreement}",
            "Change ssh_ciphers or ssh_key_exchange_algorithms, or what the server allows.",
            answered=True,
        )
    return LogInFailed(
        f"the handshake failed: {error or type(error).__name__}",
        "The server broke off: it may be starting or stopping, or refuse connections from here.",
        answered=False,
    )


def authenticate(transport: paramiko.Transport, credentials: Credentials) -> None:
    """Offer the credentials one after the other until the server is content.

    Raises:
        LogInFailed: it is not. It says which methods the server takes, what was offered, and how each was answered.
    """
    user = credentials.user
    answers: list[str] = []
    try:
        # Asks what the server takes (RFC 4252, section 5.2); to be let in at once is possible, too.
        transport.auth_none(user)
        return
    except paramiko.BadAuthenticationType as error:
        wanted = list(error.allowed_types)
        takes = ", ".join(wanted) or "nothing"
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _broken(transport, error, []) from error
    for offer in _offers(credentials, answers):
        if offer.method not in wanted:
            answers.append(f"{offer.what}: not taken")
            continue
        try:
            more = offer.make(transport)
        except paramiko.BadAuthenticationType:
            answers.append(f"{offer.what}: not taken")
        except paramiko.AuthenticationException as error:
            if not transport.is_active() or "timeout" in str(error).lower():
                raise _broken(transport, error, [*answers, f"{offer.what}: no answer"]) from error
            answers.append(f"{offer.what}: refused")
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not transport.is_active():
                raise _broken(transport, error, [*answers, f"{offer.what}: no answer"]) from error
            answers.append(f"{offer.what}: {error}")
        else:
            if transport.is_authenticated():
                return
            wanted = list(more)
            answers.append(f"{offer.what}: taken, and {' or '.join(wanted)} is asked for besides")
    raise LogInFailed(
        f"user {user} is not let in: the server takes {takes}; offered were {'; '.join(answers) or 'no credentials'}",
        "Is ssh_username the image's own user, and does the image take keys from its metadata (cloud-init)?",
        answered=True,
    )


def _broken(transport: paramiko.Transport, error: Exception, answers: Sequence[str]) -> LogInFailed:
    known = transport.get_exception() or error
    offered = f"; offered were {'; '.join(answers)}" if answers else ""
    return LogInFailed(
        f"the server broke off the log-in: {known or type(known).__name__}{offered}",
        "An SSH server does that after too many refused credentials, or when it is starting or stopping.",
        answered=bool(answers),
    )


def _offers(credentials: Credentials, answers: list[str]) -> Iterator[_Offer]:
    user = credentials.user
    if credentials.agent:
        try:
            # paramiko's own keeps a socket open when there is no agent, and says nothing.
            connect_agent().close()
            agent = paramiko.Agent()
        except (paramiko.SSHException, OSError, KeyError) as error:
            answers.append(f"the agent: it does not answer at SSH_AUTH_SOCK ({error})")
        else:
            with closing(agent):
                if not agent.get_keys():
                    answers.append("the agent: it holds no key")
                for key in agent.get_keys():
                    yield _by_key(user, f"the agent's key {key.comment or key.fingerprint}", key)
    for offered in credentials.keys:
        yield _by_key(user, offered.source, offered.key)
    if credentials.password is not None:
        password = credentials.password.get_secret_value()
        yield _Offer(
            "password", "the password", lambda transport: transport.auth_password(user, password, fallback=False)
        )

        def answer(_title: str, _instructions: str, fields: list[tuple[str, bool]]) -> list[str]:
            # What a server wants to see on the screen is no password.
            return ["" if shown else password for _, shown in fields]

        yield _Offer(
            "keyboard-interactive",
            "the password as answer",
            lambda transport: transport.auth_interactive(user, answer),
        )
    if credentials.asks:
        yield _Offer(
            "keyboard-interactive", "a person's answers", lambda transport: transport.auth_interactive(user, _ask)
        )


def _by_key(user: str, what: str, key: paramiko.PKey) -> _Offer:
    return _Offer("publickey", what, lambda transport: transport.auth_publickey(user, key))


def _ask(title: str, instructions: str, fields: list[tuple[str, bool]]) -> list[str]:
    for text in (title, instructions):
        if text:
            print(text, file=sys.stderr)
    return [input(prompt) if shown else getpass(prompt) for prompt, shown in fields]


def has_terminal() -> bool:
    """Whether there is somebody to ask."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
