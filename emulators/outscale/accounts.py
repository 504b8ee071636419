"""Accounts, their keys, and what protects them: the lock after bad attempts and the rate."""

from __future__ import annotations

import json
import secrets
import string
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, Field

from emulators.outscale import errors
from emulators.outscale.signatures import Message, NotSigned, Signature
from emulators.region.records import write_private

MAX_SKEW = 900.0
"""Seconds that a signature's time may be off. The real gateway is no stricter."""
_ATTEMPTS, _LOCKED_FOR = 4, 60.0


_LETTERS = string.ascii_uppercase + string.digits


def _random(characters: str, length: int) -> str:
    return "".join(secrets.choice(characters) for _ in range(length))


class Account(BaseModel):
    """An account, its one access key and its password, as `credentials.json` has it."""

    access_key: str = Field(default_factory=lambda: _random(_LETTERS, 20))
    secret_key: str = Field(default_factory=lambda: _random(_LETTERS, 40))
    account_id: str = Field(default_factory=lambda: _random(string.digits, 12))
    region: str
    password: str = Field(default_factory=lambda: _random(_LETTERS, 20))
    alias: str | None = None

    @property
    def login(self) -> str:
        """The account's email address."""
        return f"{self.account_id}@example.com"


def load(path: Path, account_id: str | None, region: str, alias: str | None = None) -> Account:
    """The account in a credentials file, or a new one that is written there."""
    former = json.loads(path.read_bytes()) if path.exists() else {}
    asked = {"account_id": account_id, "alias": alias}
    account = Account(**{**former, **{name: value for name, value in asked.items() if value}, "region": region})
    if account.model_dump() != former:
        write_private(path, json.dumps(account.model_dump(), indent=2) + "\n")
    return account


class Gate:
    """Lets requests in that an account has signed."""

    def __init__(self, accounts: list[Account], rate: float | None = None, call_rate: float | None = None) -> None:
        self._accounts = {account.access_key: account for account in accounts}
        self._failures: dict[str, int] = {}
        self._locked_until: dict[str, float] = {}
        self._rate, self._call_rate = rate, call_rate
        self._recent: dict[str, deque[float]] = {}

    def admit(self, message: Message, action: str) -> Account:
        """The account that signed a request for an action.

        Raises:
            ApiError: 401 for a request that no account signed, 429 for one too many in a second.
        """
        header = message.headers.get("authorization")
        if header is None:
            raise errors.access_denied()
        try:
            signature = Signature.parse(header)
        except NotSigned:
            raise errors.access_denied(12, "The authentication type is unknown.") from None
        key = signature.access_key
        if self._locked_until.get(key, 0) > time.monotonic():
            raise errors.access_denied(13, "Too many failed connection attempts: locked for 60 seconds.")
        account = self._accounts.get(key)
        if account is None or signature.region != account.region or not self._is_genuine(signature, account, message):
            self._count_failure(key)
            raise errors.access_denied()
        self._failures.pop(key, None)
        self._keep_rate(account.account_id, self._rate, 24)
        self._keep_rate(f"{account.account_id} {action}", self._call_rate, 25)
        return account

    def _is_genuine(self, signature: Signature, account: Account, message: Message) -> bool:
        signed_at = signature.time(message)
        if signed_at is None or abs((datetime.now(UTC) - signed_at).total_seconds()) > MAX_SKEW:
            return False
        return signature.is_by(account.secret_key, message)

    def _count_failure(self, key: str) -> None:
        self._failures[key] = self._failures.get(key, 0) + 1
        if self._failures[key] >= _ATTEMPTS:
            self._failures.pop(key)
            self._locked_until[key] = time.monotonic() + _LOCKED_FOR

    def _keep_rate(self, of: str, rate: float | None, code: int) -> None:
        if rate is None:
            return
        recent, now = self._recent.setdefault(of, deque()), time.monotonic()
        while recent and recent[0] <= now - 1:
            recent.popleft()
        if len(recent) >= rate:
            raise errors.throttled(code)
        recent.append(now)
