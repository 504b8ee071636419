"""Accounts, their keys, and what protects them: the lock after bad attempts and the rate."""

from __future__ import annotations

import json
import secrets
import string
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from emulators.outscale import errors
from emulators.outscale.signatures import Message, NotSigned, Signature
from emulators.region.records import write_private

MAX_SKEW = 900.0
"""Seconds that a signature's time may be off. The real gateway is no stricter."""
_ATTEMPTS, _LOCKED_FOR = 4, 60.0


class Account(BaseModel):
    """An account and its one access key, as `credentials.json` has it."""

    access_key: str
    secret_key: str
    account_id: str
    region: str


def _new(account_id: str | None, region: str) -> Account:
    letters = string.ascii_uppercase + string.digits
    return Account(
        access_key="".join(secrets.choice(letters) for _ in range(20)),
        secret_key="".join(secrets.choice(letters) for _ in range(40)),
        account_id=account_id or "".join(secrets.choice(string.digits) for _ in range(12)),
        region=region,
    )


def load(path: Path, account_id: str | None, region: str) -> Account:
    """The account in a credentials file, or a new one that is written there."""
    if path.exists():
        account = Account.model_validate_json(path.read_bytes())
        if account_id in {None, account.account_id} and account.region == region:
            return account
        account = account.model_copy(update={"account_id": account_id or account.account_id, "region": region})
    else:
        account = _new(account_id, region)
    write_private(path, json.dumps(account.model_dump(), indent=2) + "\n")
    return account


class Gate:
    """Lets requests in that an account has signed."""

    def __init__(self, accounts: list[Account], rate: float | None = None) -> None:
        self._accounts = {account.access_key: account for account in accounts}
        self._failures: dict[str, int] = {}
        self._locked_until: dict[str, float] = {}
        self._rate = rate
        self._recent: dict[str, deque[float]] = {}

    def admit(self, message: Message) -> Account:
        """The account that signed a request.

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
        self._keep_rate(account)
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

    def _keep_rate(self, account: Account) -> None:
        if self._rate is None:
            return
        recent, now = self._recent.setdefault(account.account_id, deque()), time.monotonic()
        while recent and recent[0] <= now - 1:
            recent.popleft()
        if len(recent) >= self._rate:
            raise errors.throttled(24)
        recent.append(now)
