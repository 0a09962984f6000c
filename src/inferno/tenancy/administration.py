"""Administering a platform from its own machine, whether it runs at the moment or not.

Whoever can open the platform's database is trusted with it: no credentials are asked for. A
platform that runs notices by itself what changes here (`roster`). All that is changed is recorded
in the audit trail, under the name that the operating system has for whoever did it.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from inferno.core.errors import ConfigurationError
from inferno.core.tenancy import LimitOverrides
from inferno.data_dir import DataDir
from inferno.identity.tokens import TokenIssuer, TokenPair
from inferno.storage.database import Database
from inferno.telemetry.audit import AuditEvent, AuditTrail
from inferno.tenancy.accounts import Accounts
from inferno.tenancy.first_start import FirstCredentials, ensure_admin
from inferno.tenancy.overrides import Scope
from inferno.tenancy.types import ApiKey, ApiKeyChange, NewApiKey, NewUser, User, UserChange

LOCAL = "local"
"""The address of whoever acts on the machine itself."""


@dataclass(frozen=True, slots=True)
class Administration:
    """What an operator does. Changes go through here; `accounts` and `audit` are for reading.

    Args:
        accounts: of the platform.
        audit: where changes are recorded.
        actor: who is named there.
    """

    accounts: Accounts
    audit: AuditTrail
    actor: str

    async def create_user(self, new: NewUser) -> User:
        """Create a user. Raises as `Users.create`."""
        user = await self.accounts.users.create(new)
        await self._record("user.create", f"user:{user.username}", role=user.role)
        return user

    async def change_user(self, reference: str, change: UserChange) -> User:
        """Change a user. Raises as `Users.change`."""
        user = await self.accounts.users.change(reference, change)
        await self._record("user.change", f"user:{user.username}", fields=_fields(change))
        return user

    async def delete_user(self, reference: str) -> User:
        """Delete a user with its keys. Raises as `Users.delete`."""
        user = await self.accounts.users.delete(reference)
        await self._record("user.delete", f"user:{user.username}")
        return user

    async def create_key(self, user: str, new: NewApiKey) -> tuple[ApiKey, str]:
        """Create a key, and return it with the secret. Raises as `Keys.create`."""
        key, secret = await self.accounts.keys.create(user, new)
        await self._record("api_key.create", f"api_key:{key.id}", user=key.username)
        return key, secret

    async def change_key(self, key_id: str, change: ApiKeyChange) -> ApiKey:
        """Change a key. Raises as `Keys.change`."""
        key = await self.accounts.keys.change(key_id, change)
        fields = _fields(change)
        await self._record("api_key.change", f"api_key:{key.id}", user=key.username, fields=fields)
        return key

    async def rotate_key(self, key_id: str, *, grace_seconds: int) -> tuple[ApiKey, str]:
        """Replace a key, and return the new one with its secret. Raises as `Keys.rotate`."""
        key, secret = await self.accounts.keys.rotate(key_id, grace_seconds=grace_seconds)
        await self._record("api_key.rotate", f"api_key:{key_id}", user=key.username, new=key.id)
        return key, secret

    async def revoke_key(self, key_id: str, *, user: str | None = None) -> ApiKey:
        """Delete a key.

        Args:
            key_id: which.
            user: id or username of its owner; None where that does not matter.

        Raises:
            NotFound: there is no such key, or not of that user.
        """
        owner = None if user is None else (await self.accounts.users.get(user)).id
        key = await self.accounts.keys.revoke(key_id, owner=owner)
        await self._record("api_key.revoke", f"api_key:{key.id}", user=key.username)
        return key

    async def issue_tokens(self, user: User, issuer: TokenIssuer) -> TokenPair:
        """Return tokens for a user, as a login gets them."""
        pair = issuer.issue(user.id, username=user.username, tenant=user.tenant, role=user.role)
        jti = pair.access_claims.jti
        await self._record("token.create", f"token:{jti}", user=user.username)
        return pair

    async def revoke_token(self, jti: str, *, until: float) -> None:
        """Revoke a token, or a family of them, by id; see `Revocations.revoke`."""
        await self.accounts.revocations.revoke(jti, until=until)
        await self._record("token.revoke", f"token:{jti}")

    async def set_limits(self, scope: Scope, name: str, limits: LimitOverrides) -> None:
        """Set the limits of a role or a tenant. Raises as `Overrides.set`."""
        await self.accounts.overrides.set(scope, name, limits)
        await self._record("limits.set", f"{scope}:{name}", limits=msgspec.to_builtins(limits))

    async def _record(self, action: str, target: str, **details: Any) -> None:
        await record(self.audit, self.actor, action, target, **details)


@asynccontextmanager
async def administering(database_url: str) -> AsyncIterator[Administration]:
    """Open a platform's database for the block.

    Raises:
        ConfigurationError: it cannot be opened, or there is no platform in it yet. Nothing is made
            where there is nothing.
    """
    file = database_file(database_url)
    if file is not None and not file.exists():
        raise _missing(str(file))
    database = await Database.open(database_url)
    try:
        accounts = Accounts.over(database)
        if await accounts.users.is_empty():
            raise _missing("the database" if file is None else str(file))
        yield Administration(accounts, AuditTrail(database), operating_user())
    finally:
        await database.close()


async def initialise(
    data_dir: Path, database_url: str, *, password: str | None, api_key: str | None
) -> FirstCredentials | None:
    """Make what the first start of a platform makes: data folder, secret, admin and first key.

    Args:
        data_dir: the folder.
        database_url: the database.
        password: the admin's; generated where None.
        api_key: the admin's; generated where None.

    Returns:
        The credentials, or None where there is a platform already; nothing is changed then.

    Raises:
        ConfigurationError: the folder or the database cannot be used, or one is just starting.
    """
    if await _exists(database_url):
        return None
    with DataDir(data_dir) as held:
        database = await Database.open(database_url)
        try:
            accounts = Accounts.over(database)
            first = await ensure_admin(
                held, accounts.users, accounts.keys, password=password, api_key=api_key
            )
            held.secret()
            if first is not None:
                target = f"user:{first.username}"
                await record(AuditTrail(database), operating_user(), "platform.init", target)
            return first
        finally:
            await database.close()


async def record(audit: AuditTrail, actor: str, action: str, target: str, **details: Any) -> None:
    """Record an act that was done on the machine itself."""
    await audit.append(
        AuditEvent(
            action=action,
            outcome="success",
            actor=actor,
            target=target,
            address=LOCAL,
            details=details,
        )
    )


def operating_user() -> str:
    """Return who acts, as the audit trail names it."""
    # The kernel's word, not the environment's.
    number = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(number).pw_name}"
    except KeyError:  # no account has the number
        return f"cli:{number}"


def database_file(database_url: str) -> Path | None:
    """Return the file that a database is in, or None where it is on a server."""
    try:
        url = sa.make_url(database_url)
    except ArgumentError:
        return None  # opening it says what is wrong with it
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    return Path(url.database)


async def _exists(database_url: str) -> bool:
    file = database_file(database_url)
    if file is not None and not file.exists():
        return False
    database = await Database.open(database_url)
    try:
        return not await Accounts.over(database).users.is_empty()
    finally:
        await database.close()


def _missing(place: str) -> ConfigurationError:
    return ConfigurationError(
        f"There is no platform in {place} yet; make one with `inferno security init`, or start it "
        "with `inferno serve`."
    )


def _fields(change: UserChange | ApiKeyChange) -> list[str]:
    return [name for name, value in msgspec.structs.asdict(change).items() if value is not None]
