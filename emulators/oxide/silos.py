"""Silos, their users, and the users' bearer tokens."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from emulators.oxide import errors
from emulators.oxide.records import Counts, Role, Silo, Token, User, new_id, now
from emulators.oxide.region import OxideRegion
from emulators.region.sources import GIB

PREFIX = "oxide-token-"
QUOTAS = Counts(cpus=4096, memory=16384 * GIB, storage=1 << 50)
"""What a silo may use unless it is told otherwise."""


def create(region: OxideRegion, name: str, quotas: Counts = QUOTAS, *, silo_id: str | None = None) -> Silo:
    """Make a silo. It may use the pool `default`, and takes its addresses from there.

    Raises:
        ApiError: the name is taken.
    """
    if region.silos.named("", name):
        raise errors.already_exists("silo", name)
    silo = Silo(id=silo_id or new_id(), name=name, quotas=quotas)
    region.silos.save(silo)
    if pool := region.pools.get(region.identity.pool_id):
        pool.silos[silo.id] = True
        region.pools.save(pool)
    return silo


def create_user(region: OxideRegion, silo: Silo, name: str, role: Role, *, user_id: str | None = None) -> User:
    """Make a user of a silo.

    Raises:
        ApiError: the silo has one of that name.
    """
    if region.users.named(silo.id, name):
        raise errors.already_exists("silo-user", name)
    user = User(id=user_id or new_id(), name=name, silo_id=silo.id, role=role)
    region.users.save(user)
    return user


def issue(
    region: OxideRegion, user: User, *, secret: str | None = None, expires: datetime | None = None
) -> tuple[Token, str]:
    """Give a user a bearer token, and return it with its record. Nobody can read it from the record."""
    secret = secret or f"{PREFIX}{secrets.token_hex(20)}"
    token = Token(id=new_id(), name=_digest(secret), user_id=user.id, time_expires=expires)
    region.tokens.save(token)
    return token, secret


def user_of(region: OxideRegion, header: str | None) -> User | None:
    """Whose bearer token an `Authorization` header holds; None for no token, an unknown or an expired one."""
    scheme, _, given = (header or "").partition(" ")
    secret = given.strip()
    if scheme.lower() != "bearer" or not secret.startswith(PREFIX):
        return None
    token = region.tokens.named("", _digest(secret))
    if token is None or (token.time_expires is not None and token.time_expires <= now()):
        return None
    return region.users.get(token.user_id)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
